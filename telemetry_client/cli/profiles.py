"""`telemetry login` and `telemetry profile`: stored sites."""

import sys
from dataclasses import replace
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
@click.option("--user", default="", help="Sign in as this user, with a password instead of an API key.")
@click.option("--keyring", is_flag=True, help="Keep the secret in the keyring of the system instead of the file.")
@site_command
def login(url: str, name: str, key_file: Path | None, user: str, keyring: bool) -> None:
    """Store the URL of a site with an API key or a sign-in, after a test.

    The key is read from --key-file, from standard input, or typed; the password from standard input, or typed. They are
    never arguments, which other users of the machine could read.
    """
    from telemetry_client.cli.options import _option
    from telemetry_client.sign_in import sign_in
    from telemetry_client.site import Site

    url, timeout = check_url(url), _option("timeout", 30.0)
    if user and key_file is not None:
        raise InvalidInput("either --user or --key-file is accepted")
    secret = key_file.read_text(encoding="utf-8").strip() if key_file else _read("Password" if user else "API key")
    if not user and not (secret and secret.isascii() and secret.isprintable()):
        raise InvalidInput("an API key is required: type it, pipe it in, or name a file with --key-file")
    site = Site(url, "" if user else secret, timeout=timeout)
    health = site.get("/health")
    if not isinstance(health, dict) or "service" not in health:
        raise NotTheSite(f"{url} is not a telemetry site: /health does not name a service")
    stored = sign_in(site, user, secret) if user else Profile(url, secret)
    Site(url, stored.access_token or stored.api_key, timeout=timeout).get("devices", limit=1)
    ProfileFile().save(replace(stored, name=name, keyring=keyring))
    emit({"profile": name, "url": url, "version": health.get("version")}, f"{url} is stored as profile {name}")


def _read(name: str) -> str:
    """Return a secret that is typed or piped in."""
    if sys.stdin.isatty():
        return str(click.prompt(name, hide_input=True, err=True)).strip()
    return sys.stdin.readline().strip()


@click.group()
def profile() -> None:
    """List, choose and remove stored sites."""


@profile.command("list")
@site_command
def list_profiles() -> None:
    """List the stored sites."""
    document = ProfileFile().read()
    rows = [
        {
            "profile": name,
            "url": stored["url"],
            "user": stored.get("user", ""),
            "current": name == document["current"],
        }
        for name, stored in sorted(document["profiles"].items())
    ]
    table(
        rows, [("PROFILE", "profile"), ("URL", "url"), ("USER", "user"), ("CURRENT", "current")], "no sites are stored"
    )


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
    """Delete a stored site and its key, or end its sign-in."""
    from telemetry_client.cli.options import _option
    from telemetry_client.sign_in import sign_out

    file = ProfileFile()
    stored = file.read()["profiles"].get(name, {})
    if stored.get("user"):
        sign_out(file.get(name), _option("timeout", 30.0))
    file.remove(name)
    emit({"profile": name}, f"profile {name} is removed")
