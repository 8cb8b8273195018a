"""The lock files are complete and hashed, and contain no package index."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.telemetry_site.site_process import ROOT, clean_environment

LOCK_FILES = ("requirements.txt", "requirements-dev.txt")


@pytest.mark.slow
def test_site_loads_with_only_its_runtime_requirements(tmp_path: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "tests/telemetry_site/load_with_runtime_requirements.py"],
        cwd=ROOT,
        env=clean_environment(TELEMETRY_DATA_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr


@pytest.mark.parametrize("name", LOCK_FILES)
def test_every_requirement_is_pinned_with_its_hashes(name: str) -> None:
    text = (ROOT / name).read_text()
    pinned = re.findall(r"^[\w.-]+==\S+ \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^\w", text, re.MULTILINE)) > 0


@pytest.mark.parametrize("name", [*LOCK_FILES, "package-lock.json", "package.json"])
def test_lock_files_contain_no_url(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text
