"""`telemetry completion`: the script that a shell reads at its start."""

import click
from click.shell_completion import get_completion_class

from telemetry_client.cli.options import PROGRAM
from telemetry_client.cli.output import write


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For bash: eval "$(telemetry completion bash)"
    """
    from telemetry_client.cli import cli

    script = get_completion_class(shell)
    assert script is not None
    write(script(cli, {}, PROGRAM, "_TELEMETRY_COMPLETE").source() + "\n")
