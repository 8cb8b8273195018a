"""`AlertRule`: rule documents of the alerting specification, and the rules of a site that were created from them.

A site gives each rule an ID of its own. The `rule_id` of a document is kept in the description of the rule, so that
every machine finds the rule by it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from telemetry_client.errors import InvalidInput, NothingFound
from telemetry_client.site import Site, segment

CONDITIONS = ("threshold", "trend", "anomaly")
RULES = "alerts/rules"
DOCUMENT_MARK = "Rule document: "

SAMPLE: dict[str, Any] = {
    "rule_id": "high_temperature",
    "name": "High Temperature Alert",
    "condition": "threshold",
    "parameters": {"field": "temperature", "operator": ">", "value": 80.0},
    "severity": "critical",
    "enabled": True,
    "actions": ["log_alert", "send_notification"],
}


@dataclass
class AlertRule:
    """A rule document; `condition` is threshold, trend or anomaly."""

    rule_id: str
    name: str
    condition: str
    parameters: dict[str, Any]
    severity: str = "warning"
    enabled: bool = True
    actions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.actions = list(self.actions or [])
        for name in ("rule_id", "name"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise InvalidInput(f"{name} must be a text that is not empty")
        if self.condition not in CONDITIONS:
            raise InvalidInput(f"condition must be one of {', '.join(CONDITIONS)}, not {self.condition!r}")
        if not isinstance(self.parameters, Mapping):
            raise InvalidInput('parameters must be an object such as {"field": "temperature"}')

    @classmethod
    def from_dict(cls, document: Any) -> "AlertRule":
        """Return the rule of a rule file's object. Raises InvalidInput."""
        if not isinstance(document, Mapping):
            raise InvalidInput("a rule must be an object")
        missing = [name for name in ("rule_id", "name", "condition", "parameters") if name not in document]
        if missing:
            raise InvalidInput(f"{missing[0]} is missing; a rule has {', '.join(SAMPLE)}")
        unknown = sorted(set(document) - set(SAMPLE))
        if unknown:
            raise InvalidInput(f"{unknown[0]} is not a field of a rule; accepted are {', '.join(SAMPLE)}")
        return cls(**document)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def document_id(rule: Mapping[str, Any]) -> str:
    """Return the `rule_id` of the document from which a rule of the site was created, or an empty text."""
    first_line = str(rule.get("description") or "").partition("\n")[0]
    return first_line.removeprefix(DOCUMENT_MARK) if first_line.startswith(DOCUMENT_MARK) else ""


def save_rule(site: Site, rule: AlertRule) -> dict[str, Any]:
    """Create the rule of a document, or change the one that was created from the same `rule_id`."""
    body = rule.to_dict() | {"description": f"{DOCUMENT_MARK}{rule.rule_id}"}
    del body["rule_id"]
    existing = [row for row in site.pages(RULES, "rules") if document_id(row) == rule.rule_id]
    if existing:
        saved = site.patch(f"{RULES}/{segment(existing[0]['rule_id'])}", body)
    else:
        saved = site.post(RULES, body)
    return dict(saved)


def find_rule(site: Site, text: str) -> dict[str, Any]:
    """Return the rule with this ID, document ID or name. Raises NothingFound."""
    rules = list(site.pages(RULES, "rules"))
    for matches in (
        [rule for rule in rules if rule["rule_id"] == text],
        [rule for rule in rules if document_id(rule) == text],
        [rule for rule in rules if rule["name"] == text],
    ):
        if len(matches) > 1:
            ids = ", ".join(rule["rule_id"] for rule in matches)
            raise InvalidInput(f"{len(matches)} rules have the name {text!r}: give one of the IDs {ids}")
        if matches:
            return matches[0]
    raise NothingFound(f"there is no rule with the ID or name {text!r}")


def delete_rule(site: Site, text: str) -> dict[str, Any]:
    """Delete the rule with this ID, document ID or name, and return it. Raises NothingFound."""
    rule = find_rule(site, text)
    site.delete(f"{RULES}/{segment(rule['rule_id'])}")
    return rule
