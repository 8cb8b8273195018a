"""`telemetry list-rules`, `add-rule`, `remove-rule` and `backtest`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from telemetry_client.cli.options import LEVELS, MOMENT, open_site, site_command, wants_json
from telemetry_client.cli.output import Column, Row, cell, emit, line, render, table, time_of, write

if TYPE_CHECKING:
    from telemetry_client.site import Site


def _document_id(row: Row) -> str:
    from telemetry_client.rules import document_id

    return document_id(row)


def _condition(row: Row) -> str:
    if row["kind"] in ("threshold", "trend", "forecast"):
        return f"{row['kind']} {row['condition']} {cell(row['threshold_value'])}"
    return str(row["kind"])


RULE_COLUMNS: list[Column] = [
    ("RULE", "rule_id"),
    ("DOCUMENT", _document_id),
    ("NAME", "name"),
    ("METRIC", "metric_name"),
    ("CONDITION", _condition),
    ("LEVEL", "level"),
    ("ENABLED", "enabled"),
    ("ACTIONS", "notification_channels"),
]


@click.command()
@click.option("--level", type=click.Choice(LEVELS))
@click.option("--search", help="Text in the name or description.")
@site_command
def list_rules(level: str | None, search: str | None) -> None:
    """List alert rules."""
    table(open_site().pages("alerts/rules", "rules", level=level, search=search), RULE_COLUMNS, "no rules match")


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@site_command
def add_rule(files: tuple[str, ...]) -> None:
    """Create alert rules from rule files; `-` is standard input.

    A file has one rule or a list of rules, as documents (rule_id, name, condition, parameters, …) or with the fields of
    the API. A document with the rule_id of an earlier one changes that rule. All files are checked first.
    """
    documents = [document for file in files for document in _read_rules(file)]
    site = open_site()
    saved = [_save(site, document) for document in documents]
    emit(saved[0] if len(saved) == 1 else saved)
    if not wants_json():
        write(render(RULE_COLUMNS, saved))


def _save(site: "Site", document: Any) -> dict[str, Any]:
    from telemetry_client.rules import RULES, AlertRule, save_rule

    return save_rule(site, document) if isinstance(document, AlertRule) else dict(site.post(RULES, document))


def _read_rules(file: str) -> list[Any]:
    """Return rule documents, and rules with the fields of the API as they are. Raises InvalidInput."""
    from telemetry_client.errors import InvalidInput
    from telemetry_client.rules import AlertRule

    document = _read(file)
    rules = document if isinstance(document, list) else [document]
    read: list[Any] = []
    for index, rule in enumerate(rules):
        place = file if len(rules) == 1 else f"{file}, rule {index + 1}"
        if not isinstance(rule, dict):
            raise InvalidInput(f"{place}: a rule must be an object")
        try:
            read.append(AlertRule.from_dict(rule) if "rule_id" in rule and "metric_name" not in rule else rule)
        except InvalidInput as error:
            raise InvalidInput(f"{place}: {error}") from None
    return read


def _read(file: str) -> Any:
    from telemetry_client.config import read_json
    from telemetry_client.errors import InvalidInput

    if file != "-":
        return read_json(Path(file))
    try:
        return json.load(sys.stdin)
    except ValueError as error:
        raise InvalidInput(f"standard input is not valid JSON: {error}") from None


@click.command()
@click.argument("rule")
@site_command
def remove_rule(rule: str) -> None:
    """Delete the rule with this ID, rule_id of its document, or name."""
    from telemetry_client.rules import delete_rule

    deleted = delete_rule(open_site(), rule)
    emit(deleted, f"{deleted['name']} ({deleted['rule_id']}) is deleted")


@click.command()
@click.argument("rule")
@click.option("--since", type=MOMENT, default="7d", show_default=True, help="Start of the time range.")
@click.option("--until", type=MOMENT, default="now", show_default=True, help="End of the time range.")
@site_command
def backtest(rule: str, since: str, until: str) -> None:
    """Evaluate a rule on stored points and list the alerts that it would have opened.

    RULE is the ID, rule_id or name of a rule of the site, or a rule file.
    """
    from telemetry_client.errors import InvalidInput
    from telemetry_client.rules import AlertRule, find_rule

    site = open_site()
    if rule == "-" or Path(rule).is_file():
        documents = _read_rules(rule)
        if len(documents) != 1:
            raise InvalidInput(f"{rule} has {len(documents)} rules: a backtest evaluates one")
        document = documents[0].to_dict() if isinstance(documents[0], AlertRule) else dict(documents[0])
        document.pop("rule_id", None)
        question: dict[str, Any] = {"rule": document}
    else:
        question = {"rule_id": find_rule(site, rule)["rule_id"]}
    answer = site.post("alerts/backtest", question | {"start_time": since, "end_time": until})
    if wants_json():
        emit(answer)
        return
    line(f"{answer['firings_count']} alerts, {answer['notifications']} notifications; {answer['points']} points of"
         f" {len(answer['subjects'])} series in {answer['milliseconds']:.0f} ms")  # fmt: skip
    columns: list[Column] = [
        ("DEVICE", "device_id"), ("METRIC", "metric_name"), ("START", time_of("start_time")),
        ("END", time_of("end_time")), ("VALUE", "value"), ("PEAK", "peak"),
    ]  # fmt: skip
    if answer["firings"]:
        write(render(columns, answer["firings"]))
