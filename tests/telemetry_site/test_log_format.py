"""Log records as JSON and as lines, with masked secrets."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from rest.request_context import Visit, current
from telemetry_site.log_format import JSONFormatter, LineFormatter, SecretFilter
from tests.telemetry_site.site_process import ROOT, clean_environment

CONFIGURED_SECRET = "an-unusual-secret-of-this-installation"


def record(
    text: Any = "", *values: Any, fields: dict[str, Any] | None = None, error: bool = False
) -> logging.LogRecord:
    log_record = logging.LogRecord("a.logger", logging.INFO, "file.py", 1, text, values, None)
    if fields:
        log_record.fields = fields
    if error:
        try:
            raise ValueError("postgresql://me:hunter2@db/x and tk_0123456789")
        except ValueError:
            log_record.exc_info = sys.exc_info()
    assert SecretFilter([CONFIGURED_SECRET, ""]).filter(log_record)
    return log_record


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key tk_3fQx-_9aZ is bad", "key tk_*** is bad"),
        ("Authorization: Bearer abc.def-123", "Authorization: ***"),
        ("authorization: Token abc", "authorization: ***"),
        ("sent Bearer 0123456789abcdef", "sent Bearer ***"),
        ("Basic dXNlcjpwYXNz in vain", "Basic *** in vain"),
        ("X-Api-Key: bench-key-0123", "X-Api-Key: ***"),
        ("eyJhbGciOiJub25l.eyJzdWIiOiIx.c2ln came", "*** came"),
        ("postgresql://me:pa:ss@word@db:5432/x failed", "postgresql://me:***@db:5432/x failed"),
        ("redis://:secret@cache/0", "redis://:***@cache/0"),
        ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
        ("password='with space' user=me", "password='***' user=me"),
        ("Cookie: telemetry_1f_session=abc; theme=dark", "Cookie: ***"),
        ("Set-Cookie: a=b", "Set-Cookie: ***"),
        ("telemetry_1f_session=abc123; theme=dark", "telemetry_1f_session=***; theme=dark"),
        ("GET /x?key=abc&limit=5", "GET /x?key=***&limit=5"),
        ("GET /x?limit=5&token=abc", "GET /x?limit=5&token=***"),
        ("/x?access_token=abc&secret=d&password=e", "/x?access_token=***&secret=***&password=***"),
        ("/x?api_key=abc&apikey=d", "/x?api_key=***&apikey=***"),
        ("{'password': 'hunter2', 'name': 'me'}", "{'password': '***', 'name': 'me'}"),
        ('{"client_secret":"abc","n":1}', '{"client_secret":"***","n":1}'),
        ("[(b'x-api-key', b'abc'), (b'host', b'h')]", "[(b'x-api-key', b'***'), (b'host', b'h')]"),
        ("[(b'cookie', b'a=b; c=d')]", "[(b'cookie', b'***')]"),
        (f"it was {CONFIGURED_SECRET}.", "it was ***."),
    ],
)
def test_secrets_are_masked_in_messages_arguments_and_fields(text: str, masked: str) -> None:
    assert record(text).getMessage() == masked
    assert record("%s", text).getMessage() == masked
    assert record("text", fields={"path": text}).__dict__["fields"] == {"path": masked}


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "GET /api/v1/telemetry/devices/d/metrics/token_count/latest",
        "Key (name)=(a) already exists",
        "the API key is not valid",
        "password of admin was changed",
        "http://example.com:8218/path?limit=5",
        "mail to me@example.com: sent",
        "basic needs are met",
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert record(text).getMessage() == text


def test_secrets_are_masked_in_tracebacks() -> None:
    written = json.loads(JSONFormatter().format(record("failed", error=True)))
    assert "ValueError: postgresql://me:***@db/x and tk_***" in written["traceback"]
    assert "hunter2" not in LineFormatter().format(record("failed", error=True))


def test_record_with_wrong_arguments_is_logged() -> None:
    assert "%d points" in record("%d points", "tk_abc").getMessage()
    assert "tk_abc" not in record("%d points", "tk_abc").getMessage()


def test_json_record_has_all_fields() -> None:
    token = current.set(Visit(b"r-1"))
    try:
        written = JSONFormatter().format(record("two\nlines %s", "ü", fields={"status": 200, "what": {1}}))
    finally:
        current.reset(token)
    assert "\n" not in written
    fields = json.loads(written)
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "INFO",
        "logger": "a.logger",
        "message": "two\nlines ü",
        "request_id": "r-1",
        "status": 200,
        "what": [1],
    }


def test_control_characters_are_escaped_in_lines() -> None:
    written = LineFormatter().format(record("GET", fields={"path": "/x\n2026 ERROR forged\x1b[2J"}))
    assert written.count("\n") == 0 and r"\x0a2026 ERROR forged\x1b[2J" in written


@pytest.mark.slow
@pytest.mark.parametrize(("variables", "is_json"), [({}, True), ({"TELEMETRY_LOG_FORMAT": "line"}, False)])
def test_log_format_is_configured_and_json_without_a_terminal(tmp_path, variables, is_json) -> None:
    code = (
        "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'telemetry_site.settings'; django.setup();"
        "import logging; logging.getLogger('x').warning('it is %s', os.environ['SECRET_KEY'])"
    )
    environment = clean_environment(TELEMETRY_DATA_DIR=str(tmp_path), SECRET_KEY=CONFIGURED_SECRET * 2, **variables)
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    ).stderr
    assert "it is ***" in output
    assert (json.loads(output)["message"] == "it is ***") if is_json else output.endswith("WARNING x: it is ***\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TELEMETRY_LOG_FORMAT", "TELEMETRY_LOG_LEVEL"])
def test_invalid_log_format_or_level_is_named_in_the_error(tmp_path, name: str) -> None:
    environment = clean_environment(TELEMETRY_DATA_DIR=str(tmp_path), **{name: "loud"})
    completed = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert completed.returncode != 0 and f"{name}='loud' is invalid" in completed.stderr


def test_celery_keeps_the_logging_of_the_settings() -> None:
    from celery.signals import setup_logging

    from telemetry_site import celery

    responses = setup_logging.send(sender=None)  # Celery configures logging itself if no receiver responds
    assert [receiver for receiver, _ in responses] == [celery.keep_django_logging]
