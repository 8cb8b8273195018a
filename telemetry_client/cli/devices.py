"""`telemetry devices`: list devices, or show one with its metrics."""

import click

from telemetry_client.cli.options import open_site, site_command, wants_json
from telemetry_client.cli.output import Column, details, emit, render, table, time_of, write

COLUMNS: list[Column] = [
    ("DEVICE", "device_id"),
    ("NAME", "name"),
    ("TYPE", "device_type"),
    ("GROUPS", "groups"),
    ("LAST SEEN", time_of("last_seen")),
]


@click.command()
@click.argument("device_id", required=False)
@click.option("--search", help="Text in the ID, name or description.")
@click.option("--group", help="Name of a device group.")
@click.option("--tag", help="Tag, as name:value.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True)
@site_command
def devices(device_id: str | None, search: str | None, group: str | None, tag: str | None, limit: int) -> None:
    """List devices, or show the device DEVICE_ID with its newest values."""
    site = open_site()
    if device_id is None:
        rows = site.pages("devices", "devices", limit, search=search, group=group, tag=tag)
        table(rows, COLUMNS, "no devices match")
        return
    from telemetry_client.site import segment

    device = site.get(f"devices/{segment(device_id)}")
    latest = site.post("latest", {"devices": [device_id], "lookback": 86_400})["series"]
    if wants_json():
        emit(device | {"latest": latest})
        return
    details(device)
    columns: list[Column] = [
        ("METRIC", "metric_name"), ("VALUE", "value"), ("UNIT", "unit"), ("TIME", time_of("timestamp")),
    ]  # fmt: skip
    if latest:
        write("\n" + render(columns, latest))
