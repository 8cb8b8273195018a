"""`telemetry keys`: API keys of the site."""

from datetime import UTC, datetime, timedelta

import click

from telemetry_client.cli.options import DURATION, open_site, site_command, stamp
from telemetry_client.cli.output import Column, emit, table, time_of

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("PREFIX", "prefix"),
    ("SCOPE", "scope"),
    ("DEVICE", "device_id"),
    ("GROUP", "group"),
    ("VALID", "valid"),
    ("LAST USED", time_of("last_used_at")),
    ("EXPIRES", time_of("expires_at")),
]


@click.group()
def keys() -> None:
    """List, create, rotate and revoke API keys."""


@keys.command("list")
@click.option("--search", help="Text in the name.")
@site_command
def list_keys(search: str | None) -> None:
    """List API keys, without their secret texts."""
    table(open_site().pages("keys", "keys", search=search), COLUMNS, "no keys match")


@keys.command()
@click.argument("name")
@click.option("--scope", type=click.Choice(["ingest", "read", "operate", "admin"]), required=True)
@click.option("--device", help="Device ID to which the key is limited.")
@click.option("--group", help="Device group to which the key is limited.")
@click.option("--expires-in", type=DURATION, help="Duration, such as 90d.")
@site_command
def create(name: str, scope: str, device: str | None, group: str | None, expires_in: float | None) -> None:
    """Create an API key and print it; it cannot be shown again."""
    body = {"name": name, "scope": scope, "device_id": device, "group": group}
    if expires_in is not None:
        body["expires_at"] = stamp(datetime.now(UTC) + timedelta(seconds=expires_in))
    created = open_site().post("keys", {field: value for field, value in body.items() if value is not None})
    emit(created, created["key"])


@keys.command()
@click.argument("key_id", type=click.IntRange(1))
@site_command
def revoke(key_id: int) -> None:
    """Revoke the key with this ID: it is not accepted any more."""
    emit(open_site().post(f"keys/{key_id}/revoke"), f"key {key_id} is revoked")


@keys.command()
@click.argument("key_id", type=click.IntRange(1))
@site_command
def rotate(key_id: int) -> None:
    """Replace the key with this ID and print the new one."""
    created = open_site().post(f"keys/{key_id}/rotate")
    emit(created, created["key"])
