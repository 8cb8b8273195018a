"""`telemetry alerts`, `ack` and `monitor`."""

import time
from collections.abc import Iterator
from typing import Any

import click

from telemetry_client.cli.options import LEVELS, MOMENT, open_site, site_command, wants_json, warn
from telemetry_client.cli.output import Column, cell, expect_reader, json_line, line, local_time, table, time_of

ALERT_COLUMNS: list[Column] = [
    ("ALERT", "alert_id"),
    ("LEVEL", "level"),
    ("STATUS", "status"),
    ("TRIGGERED", time_of("triggered_at")),
    ("DEVICE", "device_id"),
    ("METRIC", "metric_name"),
    ("VALUE", "value"),
    ("MESSAGE", "message"),
]


@click.command()
@click.option("--status", type=click.Choice(["active", "acknowledged", "resolved"]))
@click.option("--level", type=click.Choice(LEVELS))
@click.option("--device", help="Device ID.")
@click.option("--metric", help="Metric name.")
@click.option("--since", type=MOMENT, help="Triggered since.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@site_command
def alerts(
    status: str | None, level: str | None, device: str | None, metric: str | None, since: str | None, limit: int
) -> None:
    """List alerts, newest first."""
    filters = {"status": status, "level": level, "device_id": device, "metric_name": metric, "start_time": since}
    table(open_site().pages("alerts", "alerts", limit, **filters), ALERT_COLUMNS, "no alerts match")


@click.command()
@click.argument("alert_ids", metavar="ALERT...", nargs=-1, required=True)
@click.option("--note", default="", help="Shown in the history of the alert.")
@site_command
def ack(alert_ids: tuple[str, ...], note: str) -> None:
    """Acknowledge alerts.

    All are tried; if any is refused, the exit code is 1.
    """
    from telemetry_client.errors import Refused
    from telemetry_client.site import segment

    site, done, refused = open_site(), [], None
    for alert_id in alert_ids:
        try:
            done.append(site.put(f"alerts/{segment(alert_id)}/acknowledge", {"note": note})["alert"])
        except Refused as error:
            warn(f"{alert_id}: {error}")
            refused = error
    if done:
        table(done, [*ALERT_COLUMNS[:5], ("BY", "acknowledged_by")])
    if refused is not None:
        raise click.exceptions.Exit(refused.exit_code)


@click.command()
@click.option(
    "--duration", type=click.FloatRange(0, min_open=True), help="Seconds until the end; without end by default."
)
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two outputs."
)
@site_command
def monitor(duration: float | None, interval: float) -> None:
    """Show open alerts, and then every change of an alert as it happens."""
    from telemetry_client.streams import LiveStream

    site = open_site()
    deadline = None if duration is None else time.monotonic() + duration
    with LiveStream(site, ["alerts"]) as stream:
        for batch in _changes(stream, interval, deadline):
            if batch == ["subscribed"]:
                for alert in site.pages("alerts", "alerts", 1000, status="active"):
                    _show({"type": "alert.open", "time": alert["triggered_at"], "data": alert})
                continue
            for event in batch:
                _show(event)


def _changes(stream: Any, interval: float, deadline: float | None) -> Iterator[list[Any]]:
    """Yield the events of each interval; `["subscribed"]` whenever open alerts have to be read."""
    batch: list[Any] = []
    seen: dict[str, None] = {}
    next_output = time.monotonic() + interval
    while deadline is None or time.monotonic() < deadline:
        until = next_output if deadline is None else min(next_output, deadline)
        expect_reader()
        frame = stream.next_frame(max(0.0, until - time.monotonic())) or {}
        if frame.get("type") == "event" and frame["event"]["id"] not in seen:
            seen[frame["event"]["id"]] = None
            batch.append(frame["event"])
        elif frame.get("type") == "resync" or (frame.get("type") == "subscribed" and not stream.interruptions):
            yield ["subscribed"]
        if time.monotonic() >= until:
            next_output = time.monotonic() + interval
            if batch:
                yield batch
                batch = []
                seen = dict(list(seen.items())[-10_000:])
    if batch:
        yield batch


def _show(event: dict[str, Any]) -> None:
    if wants_json():
        json_line(event)
        return
    data = event["data"]
    change = event["type"].removeprefix("alert.")
    parts = [local_time(event["time"]), f"{change:<12}", f"{data['level']:<9}", data["alert_id"], data["device_id"]]
    line("  ".join([*map(cell, parts), data.get("message") or cell(data.get("value"))]))
