"""PRD E4-US1 to E4-US4: alert rules. What is changed here holds in every evaluator within a moment.

Whoever may read sees every rule, though not every alert of it. `admin` makes, changes and deletes rules; with scope
`operate` they are enabled and disabled.
"""

from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alerts.api import examples
from alerts.api.checking import checked, found_by, refusing
from alerts.api.lists import Filtered, asked, levels, maybe, text, told
from alerts.api.rule_shapes import RuleSerializer, shapes, whole
from alerts.models import Kind, Mode, Rule
from alerts.rules import lifecycle as rules
from metrics.api.answers import Answer, Done
from rest.configuration import Known
from rest.etags import check_match, etag
from rest.idempotency import idempotent
from rest.openapi import Tag, operation, state
from rest.pagination import PageParameters, page
from rest.permissions import caller


class RuleParameters(PageParameters):
    enabled = maybe("Whether it is enabled.")
    level = levels()
    metric_name = text("Exactly this metric.")
    kind = serializers.ChoiceField(Kind.choices, required=False, help_text="Of this kind.")
    mode = serializers.ChoiceField(Mode.choices, required=False, help_text="Those that notify, or shadows.")
    search = text("Words in the name or the description.")


class Rules(Filtered):
    rules = RuleSerializer(many=True)


class RulesView(APIView):
    """E4-US1 and E4-US2: a new rule; which rules there are."""

    scope_for_changes = "admin"

    @operation(
        "list_alert_rules",
        "Which alert rules there are",
        tag=Tag.ALERTS,
        description="A page of rules by name.",
        query=RuleParameters,
        answer=Rules,
        asked={"enabled": True, "level": ["critical"]},
        answered=examples.RULES,
    )
    def get(self, request: Request) -> Response:
        filters = asked(RuleParameters(data=request.query_params))
        rows, counts = page(request, _chosen(known_rules(), filters), RuleParameters)
        return Response({"rules": shapes(rows), **counts, "filters": told(request, filters)})

    @operation(
        "create_alert_rule",
        "Make an alert rule",
        tag=Tag.ALERTS,
        description="It is evaluated from the next measurement on. A metric that nobody has measured yet is accepted,"
        " and so are channels that nobody has made yet; the answer names both.",
        request=RuleSerializer,
        answer=RuleSerializer,
        status=201,
        errors=(422,),
        parameters=[state(201)],
        asked=examples.RULE,
        answered=examples.KNOWN_RULE,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        fields = checked(RuleSerializer(data=request.data))
        with refusing():
            made = rules.create(fields, caller(request).name)
        return rule_answer(made, status.HTTP_201_CREATED)


class RuleView(APIView):
    """E4-US3: one rule."""

    scope_for_changes = "admin"

    @operation(
        "get_alert_rule",
        "An alert rule",
        tag=Tag.ALERTS,
        description="What it says, how often it was met, and what is wrong with it, if anything.",
        answer=RuleSerializer,
        errors=(404,),
        parameters=[state()],
        answered=examples.KNOWN_RULE,
    )
    def get(self, request: Request, rule_id: str) -> Response:
        return rule_answer(found_by(known_rules(), rule_id=rule_id))

    @operation(
        "update_alert_rule",
        "Change an alert rule",
        tag=Tag.ALERTS,
        description="Fields that are not sent stay as they are. What differs is its next version.",
        request=RuleSerializer(partial=True),
        answer=RuleSerializer,
        errors=(404, 422),
        asked={"threshold_value": 95},
        answered=examples.KNOWN_RULE | {"threshold_value": 95, "version": 2},
        tagged=True,
    )
    def patch(self, request: Request, rule_id: str) -> Response:
        return self._change(request, rule_id, checked(RuleSerializer(data=request.data, partial=True)))

    @operation(
        "replace_alert_rule",
        "Say anew what an alert rule is",
        tag=Tag.ALERTS,
        description="Fields that are not sent are as of a new rule.",
        request=RuleSerializer,
        answer=RuleSerializer,
        errors=(404, 422),
        asked=examples.RULE,
        answered=examples.KNOWN_RULE | {"version": 2},
        tagged=True,
    )
    def put(self, request: Request, rule_id: str) -> Response:
        return self._change(request, rule_id, whole(checked(RuleSerializer(data=request.data))))

    @operation(
        "delete_alert_rule",
        "Delete an alert rule",
        tag=Tag.ALERTS,
        description="Its open alerts are resolved; all of them stay in the history. Its shadows go with it.",
        answer=Done,
        errors=(404,),
        answered={"success": True, "message": "High CPU Usage is deleted; its alerts stay in the history"},
        tagged=True,
    )
    def delete(self, request: Request, rule_id: str) -> Response:
        with transaction.atomic():
            found = locked_rule(request, rule_id)
            rules.delete(found, caller(request).name)
        return Response({"success": True, "message": f"{found.name} is deleted; its alerts stay in the history"})

    def _change(self, request: Request, rule_id: str, fields: dict[str, Any]) -> Response:
        with transaction.atomic(), refusing():
            changed = rules.change(locked_rule(request, rule_id), fields, caller(request).name)
        return rule_answer(changed)


class Enabled(Known):
    enabled = serializers.BooleanField(help_text="Whether it is to be evaluated.")


class RuleDone(Answer):
    success = serializers.BooleanField()
    message = serializers.CharField()
    rule = RuleSerializer()


class RuleEnableView(APIView):
    """E4-US4: enable or disable."""

    scope_for_changes = "operate"

    @operation(
        "enable_alert_rule",
        "Enable or disable an alert rule",
        tag=Tag.ALERTS,
        description="It takes effect at once. A rule that was suspended for an error is tried again.",
        request=Enabled,
        answer=RuleDone,
        errors=(404, 422),
        asked={"enabled": False},
        answered={
            "success": True,
            "message": "High CPU Usage is disabled",
            "rule": examples.KNOWN_RULE | {"enabled": False, "version": 2},
        },
        tagged=True,
    )
    def put(self, request: Request, rule_id: str) -> Response:
        fields = checked(Enabled(data=request.data))
        with transaction.atomic(), refusing():
            changed = rules.change(locked_rule(request, rule_id), fields, caller(request).name)
        message = f"{changed.name} is {'enabled' if changed.enabled else 'disabled'}"
        body = {"success": True, "message": message, "rule": shapes([changed])[0]}
        return Response(body, headers={"ETag": etag(changed)})


def known_rules() -> QuerySet[Rule]:
    return Rule.objects.select_related("shadow_of", "noise")


def locked_rule(request: Request, rule_id: str) -> Rule:
    """The rule, until the transaction ends nobody else's to change. Raises NotFound, PreconditionFailed."""
    found: Rule = found_by(Rule.objects.select_for_update(), rule_id=rule_id)
    check_match(request, found)
    return found


def rule_answer(rule: Rule, code: int = status.HTTP_200_OK) -> Response:
    return Response(shapes([rule])[0], code, headers={"ETag": etag(rule)})


def _chosen(among: QuerySet[Rule], filters: dict[str, Any]) -> QuerySet[Rule]:
    for name, value in filters.items():
        if name == "search":
            among = among.filter(Q(name__icontains=value) | Q(description__icontains=value))
        elif name == "level":
            among = among.filter(level__in=value)
        else:
            among = among.filter(**{name: value})
    return among
