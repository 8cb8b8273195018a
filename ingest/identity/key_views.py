"""API keys, for admins. The secret text of a key is returned once, when it is created or rotated."""

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from ingest.identity import keys
from ingest.identity.serializers import KeyRotationSerializer, KeySerializer, NewKeySerializer
from ingest.models import ApiKey
from rest.caller import Scope
from rest.etags import respond_with_etag
from rest.filters import BooleanFilter, ChoiceFilter, FilterSet, SearchFilter, TextFilter
from rest.openapi import Tag, operation
from rest.resources import Action, Resource, describe
from rest.responses import page_example

_NEW_KEY = {"name": "gateway 1", "scope": "ingest", "group": "site a"}
_KEY: dict[str, Any] = {
    "id": 7,
    "prefix": "tk_Zm9vY",
    "device_id": None,
    "valid": True,
    "created_at": "2025-12-18T10:00:00Z",
    "updated_at": "2025-12-18T10:00:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "rotated_from": None,
    **_NEW_KEY,
}
_TEXT = "tk_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"


class KeyFilters(FilterSet):
    scope = ChoiceFilter(choices=Scope.choices, help_text="Scope.")
    device_id = TextFilter("device__device_id", help_text="Device that the key is bound to.")
    group = TextFilter("group__name", help_text="Device group that the key is bound to.")
    valid = BooleanFilter(method="filter_valid", help_text="Whether the key is neither revoked nor expired.")
    search = SearchFilter(
        "name__icontains", "prefix__startswith", help_text="Text in the name, or beginning of the key."
    )

    def filter_valid(self, queryset: QuerySet[ApiKey], _: str, valid: bool) -> QuerySet[ApiKey]:
        condition = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
        return queryset.filter(condition if valid else ~condition)


@describe(
    Tag.ACCESS,
    list=Action(
        "list_keys",
        "List API keys",
        "Returns a page of keys without their secret text, sorted by name. All operations on keys are for admins.",
        request={"scope": "ingest", "valid": True},
        response=page_example("keys", _KEY),
    ),
    create=Action(
        "create_key",
        "Create an API key",
        "The secret text of the key is only in this response. A key is for all devices, for one device, or for the"
        " devices of a group.",
        request=_NEW_KEY,
        response=_KEY | {"key": _TEXT},
    ),
    retrieve=Action(
        "get_key",
        "Get an API key",
        "Returns the key without its secret text. `last_used_at` is accurate to a minute.",
        response=_KEY,
    ),
    partial_update=Action(
        "update_key",
        "Change an API key",
        "Changes the name or the expiry. Scope, device and group cannot be changed.",
        request={"name": "gateway 2"},
        response=_KEY | {"name": "gateway 2"},
    ),
    destroy=Action(
        "delete_key",
        "Delete an API key",
        "The key becomes invalid and is removed from the list. A revoked key stays in the list.",
        response={"success": True, "message": "the key gateway 1 (tk_Zm9vY…) is deleted"},
    ),
)
class KeyResource(Resource):
    queryset = ApiKey.objects.select_related("device", "group")
    serializer_class = KeySerializer
    created_serializer_class = NewKeySerializer
    filterset_class = KeyFilters
    lookup_field = "pk"
    lookup_url_kwarg = "key_id"
    rows_field = "keys"
    page_name = "ApiKeys"
    cacheable = True
    read_scope = "admin"
    not_found_message = "there is no key {}"

    def create(self, request: Request) -> Response:
        """Create a key; without Idempotency-Key, which would store the secret text of the response."""
        fields = self.validate(self.get_serializer(data=request.data))
        return self._respond_with_text(*ApiKey.issue(**fields))

    def deleted_message(self, row: ApiKey) -> str:
        return f"the key {row} is deleted"

    @operation(
        "rotate_key",
        "Rotate an API key",
        tag=Tag.ACCESS,
        description="Creates a key with the same name, scope and binding. The old key stays valid for"
        " `overlap_seconds`.",
        request=KeyRotationSerializer,
        response=NewKeySerializer,
        status=201,
        errors=(404, 409),
        request_example={"overlap_seconds": 86_400},
        response_example=_KEY | {"id": 8, "rotated_from": 7, "key": _TEXT},
        etag=True,
    )
    def rotate(self, request: Request, key_id: int) -> Response:
        fields = self.validate(KeyRotationSerializer(data=request.data))
        overlap = timedelta(seconds=fields["overlap_seconds"])
        return self._respond_with_text(*keys.rotate(self.get_object().pk, overlap))

    @operation(
        "revoke_key",
        "Revoke an API key",
        tag=Tag.ACCESS,
        description="The key becomes invalid at once and permanently. It stays in the list.",
        response=KeySerializer,
        errors=(404,),
        response_example=_KEY | {"valid": False, "revoked_at": "2025-12-19T10:00:00Z"},
        etag=True,
    )
    def revoke(self, request: Request, key_id: int) -> Response:
        with transaction.atomic():
            key = self.lock_object()
            keys.revoke(key)
        return self.respond(key)

    def _respond_with_text(self, key: ApiKey, text: str) -> Response:
        body = NewKeySerializer(key, context={"text": text}).data
        response = respond_with_etag(self.request, key, body, status.HTTP_201_CREATED)
        response["Cache-Control"] = "no-store"
        return response
