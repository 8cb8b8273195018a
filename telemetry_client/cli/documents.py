"""`telemetry create-config` and `create-rule`: the sample files of the alerting document."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from telemetry_client.cli.options import site_command
from telemetry_client.cli.output import emit
from telemetry_client.config import DEFAULTS
from telemetry_client.errors import InvalidInput
from telemetry_client.rules import SAMPLE

force = click.option("--force", is_flag=True, help="Replace an existing file.")
path = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.command()
@path
@force
@site_command
def create_config(file: Path, force: bool) -> None:
    """Write a sample configuration file."""
    _create(file, DEFAULTS, force)


@click.command()
@path
@force
@site_command
def create_rule(file: Path, force: bool) -> None:
    """Write a sample rule file."""
    _create(file, SAMPLE, force)


def _create(file: Path, document: Mapping[str, Any], replace: bool) -> None:
    try:
        with file.open("w" if replace else "x", encoding="utf-8") as output:
            output.write(json.dumps(document, indent=2) + "\n")
    except FileExistsError:
        raise InvalidInput(f"{file} exists: --force replaces it") from None
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}") from None
    emit({"file": str(file), "content": document}, f"{file} is written")
