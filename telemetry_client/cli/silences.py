"""`telemetry silence`: create, list and end silences."""

from datetime import UTC, datetime, timedelta

import click

from telemetry_client.cli.options import DURATION, LEVELS, open_site, site_command, stamp
from telemetry_client.cli.output import Column, Row, cell, emit, table, time_of


def _scope(row: Row) -> str:
    names = ("device_ids", "device_groups", "metric_names", "rule_ids", "levels", "alert_id")
    return "; ".join(f"{name.removesuffix('s')}: {cell(row[name])}" for name in names if row.get(name)) or "everything"


COLUMNS: list[Column] = [
    ("SILENCE", "silence_id"),
    ("KIND", "kind"),
    ("ACTIVE", "active"),
    ("ENDS", time_of("ends_at")),
    ("SCOPE", _scope),
    ("REASON", "reason"),
    ("BY", "created_by"),
]


@click.group()
def silence() -> None:
    """Create, list and end silences, during which matching alerts send no notifications."""


@silence.command()
@click.option("--device", "device_ids", multiple=True, help="Device ID; may be repeated, as the next four.")
@click.option("--group", "device_groups", multiple=True, help="Device group.")
@click.option("--metric", "metric_names", multiple=True, help="Metric name.")
@click.option("--rule", "rules", multiple=True, help="ID, document rule_id or name of a rule.")
@click.option("--level", "levels", multiple=True, type=click.Choice(LEVELS))
@click.option("--alert", "alert_id", help="Alert ID.")
@click.option("--all", "everything", is_flag=True, help="Every alert; required if nothing else is named.")
@click.option("--for", "length", type=DURATION, default="1h", show_default=True, help="Duration.")
@click.option("--reason", required=True)
@click.option("--maintenance", is_flag=True, help="A maintenance window instead of a silence.")
@site_command
def create(
    device_ids: tuple[str, ...],
    device_groups: tuple[str, ...],
    metric_names: tuple[str, ...],
    rules: tuple[str, ...],
    levels: tuple[str, ...],
    alert_id: str | None,
    everything: bool,
    length: float,
    reason: str,
    maintenance: bool,
) -> None:
    """Create a silence; alerts must match all kinds of options that are given."""
    from telemetry_client.rules import find_rule

    lists = {"device_ids": device_ids, "device_groups": device_groups, "metric_names": metric_names, "levels": levels}
    if everything == bool(rules or alert_id or any(lists.values())):
        raise click.UsageError("name what to silence (--device, --group, --metric, --rule, --level, --alert), or --all")
    site = open_site()
    body = {name: list(values) for name, values in lists.items() if values}
    if rules:
        body["rule_ids"] = [find_rule(site, rule)["rule_id"] for rule in rules]
    times = {"ends_at": stamp(datetime.now(UTC) + timedelta(seconds=length)), "reason": reason}
    more = ({"alert_id": alert_id} if alert_id else {}) | ({"kind": "maintenance"} if maintenance else {})
    created = site.post("alerts/silences", body | times | more)
    emit(created, created["silence_id"])


@silence.command("list")
@click.option("--all", "everything", is_flag=True, help="Ended ones, too.")
@site_command
def list_silences(everything: bool) -> None:
    """List silences."""
    rows = open_site().pages("alerts/silences", "silences", active=None if everything else True)
    table(rows, COLUMNS, "no silences match")


@silence.command()
@click.argument("silence_id")
@site_command
def end(silence_id: str) -> None:
    """End a silence."""
    from telemetry_client.site import segment

    answer = open_site().delete(f"alerts/silences/{segment(silence_id)}")
    emit(answer or {"silence_id": silence_id}, f"{silence_id} is ended")
