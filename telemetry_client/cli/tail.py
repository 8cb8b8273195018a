"""`telemetry tail`: live values."""

import click

from telemetry_client.cli.options import open_site, site_command, wants_json, warn
from telemetry_client.cli.output import cell, expect_reader, json_line, line, local_time


@click.command()
@click.option("--device", "devices", multiple=True, help="Device ID; may be repeated; all by default.")
@click.option("--metric", "metrics", multiple=True, help="Metric name; may be repeated; all by default.")
@click.option("--group", "groups", multiple=True, help="Device group; may be repeated.")
@click.option(
    "--every",
    type=click.IntRange(100, 10_000),
    default=1000,
    show_default=True,
    help="Milliseconds between two values of a series.",
)
@click.option("--count", type=click.IntRange(1), help="End after this number of values.")
@site_command
def tail(
    devices: tuple[str, ...], metrics: tuple[str, ...], groups: tuple[str, ...], every: int, count: int | None
) -> None:
    """Show the newest value of each series, and then new values as they arrive.

    After an interruption the stream is resumed, and missed values follow.
    """
    from telemetry_client.streams import LiveStream

    names = {"device_ids": devices, "metric_names": metrics, "groups": groups}
    series = {name: list(values) for name, values in names.items() if values} | {"max_frequency": every}
    shown = 0
    with LiveStream(open_site(), series=series) as stream:
        while True:
            expect_reader()
            frame = stream.next_frame(1.0) or {}
            if frame.get("recovered") is False:
                warn(
                    f"values were missed and cannot be resumed ({frame.get('reason')}): read them with telemetry query"
                )
            for value in frame.get("values", ()):
                if wants_json():
                    json_line(value)
                else:
                    names_and_value = (value["device_id"], value["metric_name"], value["value"], value.get("unit"))
                    line("  ".join([local_time(value["timestamp"]), *map(cell, names_and_value)]).rstrip())
                shown += 1
                if shown == count:
                    return
