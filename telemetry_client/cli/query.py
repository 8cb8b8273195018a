"""`telemetry query`: points of series, as a table and on a terminal as a chart."""

import sys
from typing import Any

import click

from telemetry_client.cli.options import MOMENT, open_site, site_command, wants_json, warn
from telemetry_client.cli.output import Column, emit, render, time_of, write

MAX_TABLE_ROWS = 40  # on a terminal, where there is a chart


@click.command()
@click.argument("metrics", metavar="METRIC...", nargs=-1, required=True)
@click.option("--device", "devices", multiple=True, help="Device ID; may be repeated; all by default.")
@click.option("--since", type=MOMENT, default="1h", show_default=True, help="Start of the time range.")
@click.option("--until", type=MOMENT, default="now", show_default=True, help="End of the time range.")
@click.option("--aggregation", help="avg, min, max, sum, count, median, first, last, stddev, rate, p99, …")
@click.option("--interval", help="Seconds of a time bucket, `auto` or `range`; with --aggregation.")
@click.option("--group-by", help="series, device, group, tag:NAME or all; with --aggregation.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Points at most.")
@click.option("--chart/--no-chart", default=None, help="Draw a chart; by default on a terminal.")
@site_command
def query(
    metrics: tuple[str, ...],
    devices: tuple[str, ...],
    since: str,
    until: str,
    aggregation: str | None,
    interval: str | None,
    group_by: str | None,
    limit: int,
    chart: bool | None,
) -> None:
    """Query points of metrics, raw or aggregated."""
    from telemetry_client.errors import NothingFound

    body: dict[str, Any] = {
        "metrics": list(metrics), "devices": list(devices) or None, "start_time": since, "end_time": until,
        "aggregation": aggregation, "group_by": group_by, "limit": limit,
        "interval": int(interval) if interval and interval.isdigit() else interval,
    }  # fmt: skip
    answer = open_site().post("query", {name: value for name, value in body.items() if value is not None})
    series = series_of(answer)
    if wants_json():
        emit(answer)
    if not any(part["data_points"] for part in series):
        raise NothingFound("no points match")
    if answer.get("truncated"):
        warn(f"only the first {limit} points are shown: use --limit, --aggregation or telemetry export")
    if not wants_json():
        _show(series, sys.stdout.isatty() if chart is None else chart)


def series_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the series of an answer, which has no list of series if there is only one."""
    if answer.get("series"):
        return list(answer["series"])
    return [{name: answer.get(name) for name in ("device_id", "metric_name", "data_points")}]


def _show(series: list[dict[str, Any]], with_chart: bool) -> None:
    rows = [
        {
            "timestamp": point["timestamp"],
            "series": part.get("group") or part.get("device_id") or point.get("device_id"),
            "metric_name": part.get("metric_name") or point.get("metric_name"),
            "value": point["value"],
            "unit": part.get("unit") or point.get("unit"),
        }
        for part in series
        for point in part["data_points"]
    ]
    columns: list[Column] = [
        ("TIME", time_of("timestamp")), ("SERIES", "series"), ("METRIC", "metric_name"), ("VALUE", "value"),
        ("UNIT", "unit"),
    ]  # fmt: skip
    if with_chart:
        from telemetry_client.cli.chart import draw

        write(draw(rows))
    if not with_chart or len(rows) <= MAX_TABLE_ROWS:
        write(render(columns, rows))
