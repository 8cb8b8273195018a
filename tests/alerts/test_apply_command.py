"""Rules as code: the commands apply and export_rules."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from alerts.rules.as_code.apply import apply
from alerts.rules.as_code.export import export
from alerts.rules.as_code.plan import ChangeKind
from tests.alerts.apply_files import FULL_FILE, SECRETS

pytestmark = pytest.mark.usefixtures("site")


def run_apply(*args: str, **streams: Any) -> tuple[int, str, str]:
    """Run `manage.py apply`. Returns its exit code, standard output and standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    try:
        call_command("apply", *args, stdout=stdout, stderr=stderr, **streams)
    except CommandError as error:
        return error.returncode, stdout.getvalue(), stderr.getvalue() + str(error)
    except SystemExit as error:
        return int(error.code or 0), stdout.getvalue(), stderr.getvalue()
    return 0, stdout.getvalue(), stderr.getvalue()


def test_exit_codes_of_applied_changed_and_invalid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("version: 1\nrules: [{name: a, metric_name: m, threshold_value: 1}]")
    code, stdout, _ = run_apply(str(file), "--dry-run")
    assert code == 1 and stdout.endswith("1 to be created, 0 to be changed, 0 to be deleted, 0 unchanged\n")
    assert run_apply(str(file))[:2] == (0, stdout.replace("to be ", ""))
    assert run_apply(str(file), "--dry-run")[0] == 0 == run_apply(str(file))[0]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"version: 2\nrules: [7]")))
    code, stdout, stderr = run_apply("-")
    assert (code, stdout) == (2, "")
    assert stderr == "version: 1 is accepted; line 1\nrules[0]: the fields of a rule are accepted; line 2\n" \
        "2 errors; nothing was changed"  # fmt: skip
    assert run_apply(str(tmp_path / "nowhere"))[::2] == (
        2,
        f"{tmp_path}/nowhere cannot be read: No such file or directory",
    )


def test_placeholders_are_replaced_by_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    file = tmp_path / "site.yaml"
    file.write_text(FULL_FILE)
    code, stdout, stderr = run_apply(str(file))
    assert code == 0 and not any(secret in stdout + stderr for secret in SECRETS.values())
    exported = io.StringIO()
    call_command("export_rules", stdout=exported)
    assert exported.getvalue() == export()
    assert "url: ${OPS_URL}" in exported.getvalue()
    with_secrets = io.StringIO()
    call_command("export_rules", "--with-secrets", stdout=with_secrets)
    assert SECRETS["OPS_URL"].replace("$", "$$") in with_secrets.getvalue()


def test_example_of_the_documentation_is_accepted() -> None:
    page = Path("docs/integrate/rules-as-code.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    secrets = {"OPS_URL": "https://hooks.example.com/x", "OPS_SECRET": "s"}
    plan = apply(example.encode(), secrets, dry_run=True)
    assert len(plan.changes) >= 7 and all(change.kind == ChangeKind.CREATE for change in plan.changes)
