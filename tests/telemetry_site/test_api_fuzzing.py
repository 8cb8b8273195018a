"""Generated valid and invalid requests get the documented responses within the time limit."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site_settings
from django.contrib.auth import get_user_model
from django.db import connection

from ingest.identity import tokens
from metrics.export import jobs
from tests.conftest import ApiClient, point

SCHEMA = Path(site_settings.BASE_DIR) / "docs" / "openapi.yaml"
# Examples per operation and phase. `make fuzz` uses more, two seeds, and the coverage phase, which tests every
# keyword of every schema.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "12")
SEEDS = os.environ.get("FUZZ_SEEDS", "1").split()
PHASES = os.environ.get("FUZZ_PHASES", "examples,fuzzing,stateful")
MAX_RESPONSE_TIME = "1.0"  # seconds
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
    "missing_required_header",
    "use_after_free",
    "ensure_resource_availability",
)


@pytest.fixture
def worker(site: None) -> Iterator[None]:
    """Run export jobs, so that there are files to download."""
    stopped = threading.Event()

    def run_jobs() -> None:
        with closing(connection):  # the connection of this thread
            while not stopped.wait(0.2):
                jobs.run_pending_jobs()

    thread = threading.Thread(target=run_jobs)
    thread.start()
    yield
    stopped.set()
    thread.join()


@pytest.fixture
def unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer at once that the hosts of examples do not exist: without a name server, looking them up takes seconds."""
    look_up = socket.getaddrinfo

    def look_up_others(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".example.com"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_others)


@pytest.mark.slow
@pytest.mark.usefixtures("worker", "unknown_names")
@pytest.mark.parametrize("seed", SEEDS)
def test_generated_requests_get_the_documented_responses(admin: ApiClient, tmp_path: Path, seed: str, settings: Any):
    settings.ACCESS_TOKEN_SECONDS = 86_400
    # The default hasher needs half a second per password.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    # A token of a user: one of the requests would revoke a key.
    token = tokens.issue_for_user(get_user_model().objects.create_superuser("root")).access_token
    for number, metric in enumerate(("temperature", "humidity", "state")):
        value = "open" if metric == "state" else 20.0 + number
        points = [point(metric, value, seconds_ago=60.0 * minutes) for minutes in range(5)]
        assert admin.post("devices/device_001/telemetry/batch", {"data_points": points}).status == 200
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", SCHEMA),
            *("--url", f"http://127.0.0.1:{admin.port}", "--header", f"X-Api-Key: {token}"),
            *("--header", "Telemetry-Min-Revision: 0"),  # generated revisions are never reached
            *("--phases", PHASES, "--checks", ",".join(CHECKS)),
            *(
                "--max-examples",
                EXAMPLES,
                "--seed",
                seed,
                "--max-response-time",
                MAX_RESPONSE_TIME,
                "--request-timeout",
                "20",
            ),
            *("--continue-on-failure", "--warnings", "off", "--suppress-health-check", "all", "--no-color"),
        ],
        capture_output=True,
        text=True,
        timeout=3 * 3600,
        cwd=tmp_path,  # schemathesis writes files into its working directory
        check=False,
    )
    print(completed.stdout[-3000:])
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert ApiClient(admin.port, {"X-Api-Key": token}).get("keys").status == 200  # the token was valid until the end
