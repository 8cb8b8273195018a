"""PRD E4-US1 to E4-US4: alert rules, their versions and shadow rules. Evaluators apply a change within a second.

A caller sees the rules that reach its devices (alerts.visibility). `admin` creates, changes and deletes rules; scope
`operate` enables and disables those that reach no other devices.
"""

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.api import examples
from alerts.api.filters import EXACT_TEXT, ChoicesFilter
from alerts.api.rule_documents import create_action_channels
from alerts.api.rule_serializers import RuleSerializer, complete_document, serialize_rules
from alerts.models import Level, Mode, Rule, RuleKind, RuleVersion
from alerts.rules import lifecycle
from alerts.visibility import check_may_change_rule, narrow_document, narrow_rules, visible_rules
from rest.caller import Caller
from rest.etags import etag
from rest.fields import BooleanField, StrictSerializer
from rest.filters import BooleanFilter, ChoiceFilter, FilterSet, SearchFilter, TextFilter
from rest.idempotency import idempotent
from rest.openapi import IF_MATCH, Tag, etag_header, operation
from rest.pagination import PageQuerySerializer
from rest.resources import Action, Conflict, Resource, describe, get_row
from rest.responses import ResponseSerializer, page_example


class RuleFilters(FilterSet):
    enabled = BooleanFilter(help_text="Whether the rule is enabled.")
    level = ChoicesFilter(Level.values, help_text="Alert levels.")
    metric_name = TextFilter(help_text="Metric name, exactly.", **EXACT_TEXT)
    kind = ChoiceFilter(choices=RuleKind.choices, help_text="Rule kind.")
    mode = ChoiceFilter(choices=Mode.choices, help_text="Live rules or shadow rules.")
    search = SearchFilter(
        "name__icontains", "description__icontains", help_text="Text in the name or description.", **EXACT_TEXT
    )


@extend_schema_serializer(component_name="Enabled")
class EnabledSerializer(StrictSerializer):
    enabled = BooleanField(help_text="Whether the rule is evaluated.")


@extend_schema_serializer(component_name="RuleDone")
class RuleActionResultSerializer(ResponseSerializer):
    success = serializers.BooleanField(help_text="Always true.")
    message = serializers.CharField(help_text="Summary of the change.")
    rule = RuleSerializer()


def rules(caller: Caller) -> QuerySet[Rule]:
    """Return the rules that a caller sees, with the related rows that RuleSerializer reads."""
    return visible_rules(caller).select_related("shadow_of", "noise")


@describe(
    Tag.ALERTS,
    list=Action(
        "list_alert_rules",
        "List alert rules",
        "Returns a page of the rules that reach devices the caller sees, sorted by name.",
        request={"enabled": True, "level": ["critical"]},
        response=page_example("rules", examples.CREATED_RULE, filters={"enabled": "true", "level": "critical"}),
    ),
    create=Action(
        "create_alert_rule",
        "Create an alert rule",
        "The rule is evaluated for points that arrive from now on. It may name a metric without points and channels"
        " that"
        " do not exist yet; the response lists them. Rule documents of the alerting specification are accepted, too:"
        " `condition` threshold, trend or anomaly, with `field`, `operator`, `value`, `threshold` and `window` in"
        " `parameters`; `severity` is the level; `actions` are channels, which are created for registered actions.",
        request=examples.RULE,
        response=examples.CREATED_RULE,
    ),
    retrieve=Action(
        "get_alert_rule",
        "Get an alert rule",
        "Returns the rule with its trigger statistics, and the error that suspended it, if any.",
        response=examples.CREATED_RULE,
    ),
    partial_update=Action(
        "update_alert_rule",
        "Change an alert rule",
        "Omitted fields keep their values. A change creates the next version of the rule.",
        request={"threshold_value": 95},
        response=examples.CREATED_RULE | {"threshold_value": 95, "version": 2},
    ),
    update=Action(
        "replace_alert_rule",
        "Replace an alert rule",
        "Omitted fields get their default values. A change creates the next version of the rule.",
        request=examples.RULE,
        response=examples.CREATED_RULE | {"version": 2},
    ),
    destroy=Action(
        "delete_alert_rule",
        "Delete an alert rule",
        "Resolves its open alerts and deletes its shadow rules. All of its alerts stay in the history.",
        response={"success": True, "message": "High CPU Usage is deleted; its alerts stay in the history"},
    ),
)
class RuleResource(Resource):
    serializer_class = RuleSerializer
    filterset_class = RuleFilters
    lookup_field = "rule_id"
    rows_field = "rules"
    echo_filters = "sent"
    unique_error = None
    action_scopes = {"enable": "operate"}

    def get_queryset(self) -> QuerySet[Rule]:
        return rules(self.caller)

    def represent(self, rows: Sequence[Rule], query: PageQuerySerializer | None = None) -> Any:
        narrow_rules(rows, self.caller)
        return serialize_rules(rows)

    def perform_create(self, serializer: Any) -> Rule:
        rule = lifecycle.create(serializer.validated_data, self.caller.name)
        self._create_action_channels()
        return rule

    def perform_update(self, serializer: Any) -> Rule:
        fields = serializer.validated_data if serializer.partial else complete_document(serializer.validated_data)
        rule = lifecycle.change(serializer.instance, fields, self.caller.name)
        self._create_action_channels()
        return rule

    def _create_action_channels(self) -> None:
        document: Any = self.request.data
        if actions := document.get("actions"):
            create_action_channels(actions, self.caller.name)

    def perform_destroy(self, row: Rule) -> None:
        lifecycle.delete(row, self.caller.name)

    def deleted_message(self, row: Rule) -> str:
        return f"{row.name} is deleted; its alerts stay in the history"

    @operation(
        "enable_alert_rule",
        "Enable or disable an alert rule",
        tag=Tag.ALERTS,
        description="Takes effect at once. Enabling also resumes a rule that was suspended by an error. 403 if the rule"
        " also reaches devices that the caller does not see.",
        request=EnabledSerializer,
        response=RuleActionResultSerializer,
        errors=(404, 412, 422),
        parameters=[IF_MATCH, etag_header()],
        request_example={"enabled": False},
        response_example={
            "success": True,
            "message": "High CPU Usage is disabled",
            "rule": examples.CREATED_RULE | {"enabled": False, "version": 2},
        },
    )
    def enable(self, request: Request, rule_id: str) -> Response:
        fields = self.validate(EnabledSerializer(data=request.data))
        with transaction.atomic():
            rule = self.lock_object()
            check_may_change_rule(rule, self.caller)
            rule = lifecycle.change(rule, fields, self.caller.name)
        message = f"{rule.name} is {'enabled' if rule.enabled else 'disabled'}"
        body = {"success": True, "message": message, "rule": self.represent([rule])[0]}
        return Response(body, headers={"ETag": etag(rule)})

    @operation(
        "rollback_alert_rule",
        "Roll an alert rule back",
        tag=Tag.ALERTS,
        description="Copies an earlier version as the next version of the rule.",
        response=RuleSerializer,
        errors=(404, 412, 422),
        parameters=[etag_header()],
        response_example=examples.CREATED_RULE | {"version": 3},
    )
    @idempotent
    def rollback(self, request: Request, rule_id: str, version: int) -> Response:
        with transaction.atomic():
            rule = lifecycle.roll_back(self.lock_object(), version, self.caller.name)
        return self.respond(rule)

    @operation(
        "create_shadow_rule",
        "Create a shadow rule",
        tag=Tag.ALERTS,
        description="Creates a rule with the changed fields that is evaluated on live data and sends no notifications."
        " Its alerts are listed only with the filter `shadow`.",
        request=RuleSerializer(partial=True),
        response=RuleSerializer,
        status=201,
        errors=(404, 422),
        parameters=[etag_header(201)],
        request_example={"threshold_value": 95},
        response_example=examples.CREATED_RULE
        | {
            "rule_id": "rule_fedcba9876543210",
            "threshold_value": 95,
            "mode": "shadow",
            "shadow_of": "rule_0123456789abcdef",
        },
    )
    @idempotent
    def create_shadow(self, request: Request, rule_id: str) -> Response:
        fields = self.validate(RuleSerializer(data=request.data, partial=True))
        with transaction.atomic():
            live = self.lock_object()
            if live.mode == Mode.SHADOW:
                raise Conflict(f"{rule_id} is a shadow rule: only a live rule can have shadow rules")
            document = lifecycle.document_of(live) | {"enabled": True} | fields
            shadow = lifecycle.create(document, self.caller.name, shadow_of=live)
        return self.respond(shadow, status.HTTP_201_CREATED)

    @operation(
        "promote_shadow_rule",
        "Promote a shadow rule",
        tag=Tag.ALERTS,
        description="Copies the shadow rule as the next version of its live rule, which keeps its name and stays"
        " enabled"
        " or disabled, and deletes the shadow rule. Returns the live rule.",
        response=RuleSerializer,
        errors=(404, 409, 412, 422),
        parameters=[etag_header()],
        response_example=examples.CREATED_RULE | {"threshold_value": 95, "version": 2},
    )
    @idempotent
    def promote(self, request: Request, rule_id: str) -> Response:
        with transaction.atomic():
            shadow = self.lock_object()
            if shadow.mode != Mode.SHADOW or shadow.shadow_of is None:
                raise Conflict(f"{rule_id} is not a shadow rule: only shadow rules can be promoted")
            rule = lifecycle.promote(shadow, self.caller.name)
        return self.respond(rule)


@extend_schema_serializer(component_name="Version")
class RuleVersionSerializer(serializers.ModelSerializer[RuleVersion]):
    document = serializers.DictField(help_text="Fields of the rule in this version.")

    class Meta:
        model = RuleVersion
        fields = ("version", "by", "at", "note", "document")
        read_only_fields = fields


@describe(
    Tag.ALERTS,
    list=Action(
        "list_alert_rule_versions",
        "List versions of an alert rule",
        "Returns a page of versions, newest first, with their author and time.",
        response=page_example("versions", examples.VERSION),
    ),
    retrieve=Action(
        "get_alert_rule_version",
        "Get a version of an alert rule",
        "Returns the fields of the rule in this version.",
        response=examples.VERSION,
    ),
)
class RuleVersionResource(Resource):
    serializer_class = RuleVersionSerializer
    lookup_field = "version"
    rows_field = "versions"
    is_nested = True
    has_etag = False
    not_found_message = "the rule has no version {}"

    def get_queryset(self) -> QuerySet[RuleVersion]:
        rule: Rule = get_row(rules(self.caller), rule_id=self.kwargs["rule_id"])
        return rule.versions.all()

    def represent(self, rows: Sequence[RuleVersion], query: PageQuerySerializer | None = None) -> Any:
        for version in rows:
            version.document = narrow_document(version.document, self.caller)
        return super().represent(rows, query)
