"""`telemetry login` and `telemetry profile`: stored sites."""

import sys
from pathlib import Path

import click

from telemetry_client.cli.options import site_command
from telemetry_client.cli.output import emit, table
from telemetry_client.errors import InvalidInput, NotTheSite
from telemetry_client.profiles import DEFAULT, Profile, ProfileFile, check_url


@click.command()
@click.argument("url")
@click.option("--name", default=DEFAULT, show_default=True, help="Name of the profile.")
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the API key.")
@site_command
def login(url: str, name: str, key_file: Path | None) -> None:
    """Store the URL and API key of a site, after a test.

    The key is read from --key-file, from standard input, or typed; it is never an argument, which other users of the
    machine could read.
    """
    from telemetry_client.cli.options import _option
    from telemetry_client.site import Site

    url = check_url(url)
    if key_file is not None:
        key = key_file.read_text(encoding="utf-8").strip()
    elif sys.stdin.isatty():
        key = click.prompt("API key", hide_input=True, err=True).strip()
    else:
        key = sys.stdin.readline().strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidInput("an API key is required: type it, pipe it in, or name a file with --key-file")
    site = Site(url, key, timeout=_option("timeout", 30.0))
    health = site.get("/health")
    if not isinstance(health, dict) or "service" not in health:
        raise NotTheSite(f"{url} is not a telemetry site: /health does not name a service")
    site.get("devices", limit=1)
    file = ProfileFile()
    file.save(Profile(url, key, name))
    emit({"profile": name, "url": url, "version": health.get("version")}, f"{url} is stored as profile {name}")


@click.group()
def profile() -> None:
    """List, choose and remove stored sites."""


@profile.command("list")
@site_command
def list_profiles() -> None:
    """List the stored sites."""
    document = ProfileFile().read()
    rows = [
        {"profile": name, "url": stored["url"], "current": name == document["current"]}
        for name, stored in sorted(document["profiles"].items())
    ]
    table(rows, [("PROFILE", "profile"), ("URL", "url"), ("CURRENT", "current")], "no sites are stored")


@profile.command()
@click.argument("name")
@site_command
def use(name: str) -> None:
    """Use a stored site from now on."""
    ProfileFile().use(name)
    emit({"profile": name}, f"profile {name} is in use")


@profile.command()
@click.argument("name")
@site_command
def remove(name: str) -> None:
    """Delete a stored site and its key."""
    ProfileFile().remove(name)
    emit({"profile": name}, f"profile {name} is removed")
