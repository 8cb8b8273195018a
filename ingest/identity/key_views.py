"""API keys over the API, for admins: made, listed, renamed, rotated, revoked. A key's text is in one answer, ever."""

from datetime import timedelta

import django_filters
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ingest.authentication import MayAdminister
from ingest.identity import description, keys
from ingest.identity.shapes import KeySerializer, NewKeySerializer, Rotation
from ingest.models import ApiKey
from rest.caller import Scope
from rest.etags import check_match, tagged
from rest.pagination import page


class KeyFilter(django_filters.FilterSet):
    scope = django_filters.ChoiceFilter(choices=Scope.choices)
    device_id = django_filters.CharFilter("device__device_id")
    group = django_filters.CharFilter("group__name")
    valid = django_filters.BooleanFilter(method="is_good")
    search = django_filters.CharFilter(method="containing")

    def is_good(self, found: QuerySet[ApiKey], name: str, wanted: bool) -> QuerySet[ApiKey]:
        valid = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
        return found.filter(valid if wanted else ~valid)

    def containing(self, found: QuerySet[ApiKey], name: str, words: str) -> QuerySet[ApiKey]:
        """Those in whose name these words occur, or whose text begins with them."""
        return found.filter(Q(name__icontains=words) | Q(prefix__startswith=words))


class KeysView(APIView):
    """Which keys there are; a new one."""

    permission_classes = [MayAdminister]

    @description.describe_list
    def get(self, request: Request) -> Response:
        chosen = KeyFilter(request.query_params, ApiKey.objects.select_related("device", "group"))
        if not chosen.is_valid():
            raise serializers.ValidationError(chosen.errors)
        rows, told = page(request, chosen.qs)
        return Response({"keys": KeySerializer(rows, many=True).data, **told})

    @description.describe_create
    def post(self, request: Request) -> Response:
        given = KeySerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return _with_text(request, *ApiKey.issue(**given.validated_data))


class KeyView(APIView):
    """One key: what it is called and when it ends may be changed, what it is for may not."""

    permission_classes = [MayAdminister]

    @description.describe_get
    def get(self, request: Request, key_id: int) -> Response:
        found = _numbered(ApiKey.objects.select_related("device", "group"), key_id)
        return tagged(request, found, KeySerializer(found).data)

    @description.describe_update
    def patch(self, request: Request, key_id: int) -> Response:
        with transaction.atomic():
            found = _numbered(ApiKey.objects.select_for_update(), key_id)
            check_match(request, found)
            given = KeySerializer(found, data=request.data, partial=True)
            given.is_valid(raise_exception=True)
            changed = given.save()
        return tagged(request, changed, KeySerializer(changed).data)

    @description.describe_delete
    def delete(self, request: Request, key_id: int) -> Response:
        with transaction.atomic():
            found = _numbered(ApiKey.objects.select_for_update(), key_id)
            check_match(request, found)
            found.delete()
        return Response({"success": True, "message": f"the key {found} is deleted"})


class RotateKeyView(APIView):
    """A successor, with the same name, scope and binding; the old key is good for a while more."""

    permission_classes = [MayAdminister]

    @description.describe_rotate
    def post(self, request: Request, key_id: int) -> Response:
        given = Rotation(data=request.data)
        given.is_valid(raise_exception=True)
        overlap = timedelta(seconds=given.validated_data["overlap_seconds"])
        return _with_text(request, *keys.rotate(_numbered(ApiKey.objects.all(), key_id).pk, overlap))


class RevokeKeyView(APIView):
    """The end of a key, at once and for good; the row stays, for those who ask whose it was."""

    permission_classes = [MayAdminister]

    @description.describe_revoke_key
    def post(self, request: Request, key_id: int) -> Response:
        with transaction.atomic():
            found = _numbered(ApiKey.objects.select_for_update(), key_id)
            keys.revoke(found)
        return tagged(request, found, KeySerializer(found).data)


def _with_text(request: Request, made: ApiKey, text: str) -> Response:
    answer = tagged(request, made, NewKeySerializer(made, context={"text": text}).data, status.HTTP_201_CREATED)
    answer["Cache-Control"] = "no-store"
    return answer


def _numbered(among: QuerySet[ApiKey], key_id: int) -> ApiKey:
    found = among.filter(pk=key_id).first()
    if found is None:
        raise NotFound(f"there is no key {key_id}")
    return found
