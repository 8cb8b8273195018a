"""`telemetry status`, `dashboard` and `patterns`."""

from collections.abc import Mapping
from typing import Any

import click

from telemetry_client.cli.alerts import ALERT_COLUMNS
from telemetry_client.cli.options import open_site, site_command, wants_json
from telemetry_client.cli.output import Column, cell, details, emit, line, local_time, render, table, time_of, write

SHOWN_VALUES = 3


def _values(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{v['metric_name']} {cell(v['value'])} {v['unit']}".strip() for v in row["values"][:SHOWN_VALUES])


DEVICE_COLUMNS: list[Column] = [
    ("DEVICE", "device_id"),
    ("STATUS", "status"),
    ("LAST SEEN", time_of("last_seen")),
    ("VALUES", _values),
]
PATTERN_COLUMNS: list[Column] = [
    ("KIND", "kind"),
    ("CONFIDENCE", "confidence"),
    ("SUPPORT", "support"),
    ("DESCRIPTION", "description"),
]


@click.command()
@site_command
def status() -> None:
    """Show the status of the site."""
    answer = open_site().get("/telemetry/status")
    if wants_json():
        emit(answer)
        return
    rejected = answer.pop("rejected", None) or {}
    details(answer | {"devices": _states(answer["devices"]), "timestamp": local_time(answer["timestamp"]),
                      "rejected_points": rejected.get("points")})  # fmt: skip


@click.command()
@site_command
def dashboard() -> None:
    """Show devices, newest values and open alerts."""
    answer = open_site().get("/dashboard")
    if wants_json():
        emit(answer)
        return
    line(f"{answer['status']}: {answer['summary']}; {_states(answer['devices'])}")
    line(f"{answer['points_per_second']} points/s")
    if answer["recent"]:
        write("\n" + render(DEVICE_COLUMNS, answer["recent"]))
    if answer["alerts"]:
        write("\n" + render(ALERT_COLUMNS, answer["alerts"]))


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@site_command
def patterns(limit: int) -> None:
    """List patterns of alerts, the highest confidence first."""
    table(open_site().get("/patterns", limit=limit), PATTERN_COLUMNS, "no patterns were found")


def _states(devices: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in devices.items())
