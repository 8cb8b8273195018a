"""Options and parameter types that commands share."""

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from telemetry_client.site import Site

PROGRAM = "telemetry"
Function = TypeVar("Function", bound=Callable[..., Any])
LEVELS = ("info", "warning", "error", "critical", "emergency")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
MAX_SECONDS = 3_155_760_000.0  # 100 years


def seconds_of(text: str) -> float | None:
    """Return the seconds of a duration such as 90s, 15m, 2h or 7d, None if it is none."""
    match = _DURATION.fullmatch(text.strip())
    return float(match[1]) * _UNITS[match[2]] if match else None


class Duration(click.ParamType[float]):
    """A duration such as 90s, 15m, 2h or 7d, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = value if isinstance(value, float) else seconds_of(str(value))
        if seconds is None or not 0 < seconds <= MAX_SECONDS:
            self.fail(f"{value!r} is not a duration: 90s, 15m, 2h, 7d or 4w are accepted", param, ctx)
        return float(seconds)


class Moment(click.ParamType[str]):
    """A time, absolute or as a duration before now; as RFC 3339 in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "now":
            return stamp(datetime.now(UTC))
        seconds = seconds_of(str(value))
        try:
            if seconds is not None:
                return stamp(datetime.now(UTC) - timedelta(seconds=seconds))
            moment = datetime.fromisoformat(str(value))
            return stamp(moment if moment.tzinfo else moment.astimezone())
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a time: now, 2h, 7d (ago) or 2026-01-31T08:00:00Z (local time without an offset)"
                " are accepted",
                param,
                ctx,
            )


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


DURATION, MOMENT = Duration(), Moment()


def site_command(function: Function) -> Function:
    """Add the options that every command accepts: --json, --profile and --timeout."""
    for option in (
        click.option("--timeout", type=click.FloatRange(0.1, 3600), default=30.0, show_default=True, expose_value=False,
                     callback=_remember, help="Seconds to wait for a response."),
        click.option("--profile", default="", expose_value=False, callback=_remember, shell_complete=_profiles,
                     help="Stored site to use instead of the current one."),
        click.option("--json", is_flag=True, expose_value=False, callback=_remember, help="Print JSON."),
    ):  # fmt: skip
        function = option(function)
    return function


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if param.name is not None:
        ctx.find_root().ensure_object(dict)[param.name] = value


def _profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from telemetry_client.errors import ClientError
    from telemetry_client.profiles import ProfileFile

    try:
        return [name for name in ProfileFile().read()["profiles"] if name.startswith(incomplete)]
    except ClientError:
        return []


def _option(name: str, default: Any) -> Any:
    return (click.get_current_context().find_root().obj or {}).get(name, default)


def wants_json() -> bool:
    """Return whether --json was given."""
    return bool(_option("json", False))


def profile_name() -> str:
    """Return the profile named by --profile."""
    return str(_option("profile", ""))


def open_site(profile: str | None = None) -> "Site":
    """Return the site that the command is for. Raises NoProfile."""
    from telemetry_client.site import Site

    return Site.from_profile(profile_name() if profile is None else profile, timeout=_option("timeout", 30.0))


def on_terminal() -> bool:
    """Return whether progress and charts may be drawn."""
    return sys.stderr.isatty() and sys.stdout.isatty()


def warn(text: str) -> None:
    """Write a line on standard error."""
    click.echo(f"{PROGRAM}: {text}", err=True)
