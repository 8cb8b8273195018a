"""The `telemetry` command. Modules of commands are imported when they are used, so that it starts quickly."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from telemetry_client import VERSION
from telemetry_client.cli.options import PROGRAM
from telemetry_client.errors import USAGE, ClientError

INTERRUPTED = 130
COMMANDS = {  # name: module, one line of help
    "ack": ("alerts", "Acknowledge alerts."),
    "add-rule": ("rules", "Create or change alert rules from rule files."),
    "agent": ("agent", "Install and inspect the edge agent of this machine."),
    "alerts": ("alerts", "List alerts."),
    "backtest": ("rules", "Evaluate a rule on stored points."),
    "completion": ("completion", "Print the shell completion script."),
    "create-config": ("documents", "Write a sample configuration file."),
    "create-rule": ("documents", "Write a sample rule file."),
    "dashboard": ("status", "Show devices, newest values and open alerts."),
    "devices": ("devices", "List devices, or show one."),
    "export": ("export", "Export points as CSV, JSON lines or Parquet."),
    "generate": ("generate", "Write or send points of a simulated fleet."),
    "ingest": ("ingest", "Send events from a file."),
    "keys": ("keys", "List, create, rotate and revoke API keys."),
    "list-rules": ("rules", "List alert rules."),
    "login": ("profiles", "Store a site with an API key or a sign-in."),
    "monitor": ("alerts", "Show alerts as they happen."),
    "patterns": ("status", "List patterns of alerts."),
    "profile": ("profiles", "List, choose and remove stored sites."),
    "query": ("query", "Query points, with a chart on a terminal."),
    "remove-rule": ("rules", "Delete an alert rule."),
    "silence": ("silences", "Create, list and end silences."),
    "start": ("start", "Start the site of a checkout."),
    "status": ("status", "Show the status of the site."),
    "tail": ("tail", "Show live values."),
}


class LazyGroup(click.Group):
    """A group whose commands are in modules that are imported when a command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"telemetry_client.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            similar = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {similar[0]!r}?" if similar else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success; 1 the site refused the request, or nothing was found; 2 wrong usage or no site"
    " configured; 3 the site cannot be reached. Each command also accepts --json, --profile and --timeout.",
)
@click.version_option(VERSION, prog_name=PROGRAM)
def cli() -> None:
    """Work with a telemetry site from the command line.

    The site is that of TELEMETRY_URL and TELEMETRY_API_KEY, or the one stored by `telemetry login`.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    from telemetry_client.cli.output import PipeClosed

    try:
        result = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except (PipeClosed, BrokenPipeError):  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except ClientError as error:
        click.echo(f"{PROGRAM}: {error}", err=True)
        code = error.exit_code
    except click.FileError as error:
        click.echo(f"{PROGRAM}: {error.format_message()}", err=True)
        code = USAGE
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    sys.exit(code)
