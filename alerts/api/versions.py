"""What an alert rule was before, and what it might become: versions, and shadows that are tried beside it."""

from typing import Any

from django.db import transaction
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.checking import Conflict, checked, found_by, refusing
from alerts.api.rule_shapes import RuleSerializer
from alerts.api.rules import known_rules, locked_rule, rule_answer
from alerts.models import Mode, RuleVersion
from alerts.rules import lifecycle
from alerts.rules.lifecycle import document_of
from metrics.api.answers import Page
from rest.idempotency import idempotent
from rest.openapi import Tag, operation, state
from rest.pagination import PageParameters, page
from rest.permissions import caller

LARGEST_VERSION = 2**31 - 1


class VersionSerializer(serializers.ModelSerializer[RuleVersion]):
    document = serializers.DictField(help_text="What was set, by field.")

    class Meta:
        model = RuleVersion
        fields = ("version", "by", "at", "note", "document")
        read_only_fields = fields


class Versions(Page):
    versions = VersionSerializer(many=True)


class VersionsView(APIView):
    @operation(
        "list_alert_rule_versions",
        "Every version of an alert rule",
        tag=Tag.ALERTS,
        description="The newest first: what the rule said, since when, and who had it so.",
        query=PageParameters,
        answer=Versions,
        errors=(404,),
        answered={"versions": [examples.VERSION], **examples.PAGE},
    )
    def get(self, request: Request, rule_id: str) -> Response:
        rows, told = page(request, found_by(known_rules(), rule_id=rule_id).versions.all())
        return Response({"versions": VersionSerializer(rows, many=True).data, **told})


class VersionView(APIView):
    @operation(
        "get_alert_rule_version",
        "A version of an alert rule",
        tag=Tag.ALERTS,
        description="What the rule said then.",
        answer=VersionSerializer,
        errors=(404,),
        answered=examples.VERSION,
    )
    def get(self, request: Request, rule_id: str, version: int) -> Response:
        rule = found_by(known_rules(), rule_id=rule_id)
        found = rule.versions.filter(version=version).first() if version <= LARGEST_VERSION else None
        if found is None:
            raise NotFound(f"{rule_id} has no version {version}")
        return Response(VersionSerializer(found).data)


class RollbackView(APIView):
    scope_for_changes = "admin"

    @operation(
        "rollback_alert_rule",
        "Put a version of before back",
        tag=Tag.ALERTS,
        description="The rule says again what it said then, as its next version.",
        answer=RuleSerializer,
        errors=(404, 412, 422),
        parameters=[state()],
        answered=examples.KNOWN_RULE | {"version": 3},
    )
    @idempotent
    def post(self, request: Request, rule_id: str, version: int) -> Response:
        if version > LARGEST_VERSION:
            raise NotFound(f"{rule_id} has no version {version}")
        with transaction.atomic(), refusing():
            changed = lifecycle.roll_back(locked_rule(request, rule_id), version, caller(request).name)
        return rule_answer(changed)


class ShadowView(APIView):
    scope_for_changes = "admin"

    @operation(
        "create_shadow_rule",
        "Try a change of an alert rule beside it",
        tag=Tag.ALERTS,
        description="A rule that differs in what is sent, is evaluated like any other, and never tells anybody. Its"
        " alerts are hidden from lists that do not ask for them.",
        request=RuleSerializer(partial=True),
        answer=RuleSerializer,
        status=201,
        errors=(404, 422),
        parameters=[state(201)],
        asked={"threshold_value": 95},
        answered=examples.KNOWN_RULE
        | {
            "rule_id": "rule_fedcba9876543210",
            "threshold_value": 95,
            "mode": "shadow",
            "shadow_of": "rule_0123456789abcdef",
        },
    )
    @idempotent
    def post(self, request: Request, rule_id: str) -> Response:
        fields: dict[str, Any] = checked(RuleSerializer(data=request.data, partial=True))
        with transaction.atomic(), refusing():
            live = locked_rule(request, rule_id)
            if live.mode == Mode.SHADOW:
                raise Conflict(f"{rule_id} is a shadow itself: try a change of the rule that it is tried for")
            made = lifecycle.create(
                document_of(live) | {"enabled": True} | fields, caller(request).name, shadow_of=live
            )
        return rule_answer(made, status.HTTP_201_CREATED)


class PromoteView(APIView):
    scope_for_changes = "admin"

    @operation(
        "promote_shadow_rule",
        "Take over what was tried",
        tag=Tag.ALERTS,
        description="What the shadow says becomes the next version of the rule that it was tried for, which keeps its"
        " name and whether it is enabled. The shadow is gone. Answers that rule.",
        answer=RuleSerializer,
        errors=(404, 409, 412, 422),
        parameters=[state()],
        answered=examples.KNOWN_RULE | {"threshold_value": 95, "version": 2},
    )
    @idempotent
    def post(self, request: Request, rule_id: str) -> Response:
        with transaction.atomic(), refusing():
            shadow = locked_rule(request, rule_id)
            if shadow.mode != Mode.SHADOW or shadow.shadow_of is None:
                raise Conflict(f"{rule_id} is no shadow: only what is tried for another rule can be taken over")
            promoted = lifecycle.promote(shadow, caller(request).name)
        return rule_answer(promoted)
