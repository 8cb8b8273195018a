"""The client is packaged with all of its modules and the version of the site."""

import tomllib

from telemetry_client import VERSION
from telemetry_client.cli import COMMANDS, cli
from tests.telemetry_site.site_process import ROOT

CLIENT = ROOT / "telemetry_client"


def test_client_has_the_version_of_the_site() -> None:
    versions = [
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"] for folder in (ROOT, CLIENT)
    ]
    assert versions == [VERSION, VERSION]


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((CLIENT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [path.parent for path in CLIENT.rglob("__init__.py") if "compat" not in path.parts]
    assert sorted(listed) == sorted(".".join(folder.relative_to(ROOT).parts) for folder in folders)


def test_every_command_has_its_function_help_and_common_options() -> None:
    import click

    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None and command.help, name
        leaves = command.commands.values() if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            options = {option for parameter in leaf.params for option in parameter.opts}
            assert name == "completion" or {"--json", "--profile", "--timeout"} <= options, (name, leaf.name)
