"""Wrong usage, wrong keys, servers that are no site, and readers that end early: one clear line and an exit code."""

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from telemetry_client.cli.output import render
from telemetry_client.errors import NotTheSite, Refused, Unreachable, WrongKey
from telemetry_client.profiles import ProfileFile
from telemetry_client.site import Site
from tests.client.conftest import Shell, site_of, url_of
from tests.conftest import ApiClient, point
from tests.telemetry_site.site_process import free_port

DAY = timedelta(days=1)
Answer = tuple[int, dict[str, str], bytes]
JSON = {"Content-Type": "application/json"}


@contextmanager
def server(*answers: Answer, context: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A web server that gives these answers, the last one again and again; yields its URL and the received headers."""
    received: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = answers[min(len(received), len(answers) - 1)]
            received.append({"method": self.command, "path": self.path, **dict(self.headers)})
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        web.socket = context.wrap_socket(web.socket, server_side=True)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{web.server_address[1]}", received
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Create a certificate of 127.0.0.1 that no authority signed; return it and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number(), now, now + DAY)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    signed = builder.add_extension(names, False).add_extension(constraints, True).sign(private, hashes.SHA256())
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


# --- the command --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("command", ["devices", "status", "tail", "monitor", "list-rules", "query temperature"])
def test_command_without_a_site_exits_with_2(bare_shell: Shell, command: str) -> None:
    result = bare_shell.run(f"telemetry {command}")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "telemetry: no site is configured: run telemetry login URL, or set TELEMETRY_URL and TELEMETRY_API_KEY\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", ["devices", "monitor", "tail", "ingest x.json"])
def test_command_with_a_wrong_key_exits_with_1(shell: Shell, command: str) -> None:
    (shell.folder / "x.json").write_text('{"source": "s", "type": "t", "value": 1}')
    shell.variables["TELEMETRY_API_KEY"] = "tk_wrong"
    result = shell.run(f"telemetry {command}")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1), result
    assert result.err.startswith("telemetry: the site rejected the request (401): ")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["devices", "monitor", "tail", "export --device a --metric b -o x.csv"])
def test_command_without_a_server_exits_with_3(shell: Shell, command: str) -> None:
    url = shell.variables["TELEMETRY_URL"] = f"http://127.0.0.1:{free_port()}"
    result = shell.run(f"telemetry {command}")
    assert (result.code, result.out) == (3, "")
    assert result.err == f"telemetry: {url} cannot be reached: connection refused\n"
    assert not (shell.folder / "x.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["devices", "tail", "login {url}"])
def test_another_web_server_is_named_as_such(shell: Shell, command: str) -> None:
    with server((200, {"Content-Type": "text/html"}, b"<h1>It works</h1>")) as (url, _):
        shell.variables["TELEMETRY_URL"] = url
        result = shell.run(f"telemetry {command.format(url=url)}", "tk_key\n")
    assert (result.code, result.err.count("\n")) == (3, 1), result
    assert "is not a telemetry site" in result.err or "is not a live stream" in result.err


@pytest.mark.slow
def test_reader_that_ends_early_is_no_error(shell: Shell) -> None:
    shell.succeed("telemetry generate events.json --count 3000 && telemetry ingest events.json")
    for command in (
        "telemetry query flow --limit 750 | head -1",
        "telemetry query flow --json | head -1",
        "telemetry export --device sim-pump-001 --metric flow | head -1",
        "telemetry generate - --count 20000 | head -1",
        "telemetry tail --every 100 | head -1",  # without new values
        "telemetry monitor --duration 40 | head -0",
    ):
        result = shell.run(command)
        assert (result.code, len(result.lines), result.err) == (0, not command.endswith("-0"), ""), (command, result)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("telemetry devizes", "No such command 'devizes'. Did you mean 'devices'?"),
        ("telemetry query temperature --since tomorrow", "'tomorrow' is not a time"),
        ("telemetry silence create --reason x", "name what to silence"),
        ("telemetry silence create --all --for 2", "'2' is not a duration"),
        ("telemetry ingest missing.json", "missing.json cannot be read: No such file or directory"),
        ("echo '{' | telemetry ingest -", "- is not valid JSON"),
        ("echo '[1]' | telemetry ingest -", "event 0 must be an object"),
        ("telemetry ingest - < /dev/null", "- is empty"),
        ('echo \'{"rule_id": "x", "name": "y"}\' | telemetry add-rule -', "condition is missing"),
        ("telemetry devices --profile other", "there is no profile 'other'; profiles: none"),
        ("telemetry start --checkout /tmp", "/tmp is not a checkout of the site"),
        ("echo '{\"buffer\": 1}' > c.json; telemetry start --config c.json", "buffer is not a setting"),
        ("TELEMETRY_URL=localhost:8218 telemetry devices", "'localhost:8218' is not the URL of a site"),
        ("telemetry create-rule . ", "is a directory"),
    ],
)
def test_wrong_usage_exits_with_2(shell: Shell, line: str, part: str) -> None:
    result = shell.run(line)
    assert (result.code, result.out) == (2, ""), result
    assert part in result.err and "Traceback" not in result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("telemetry remove-rule nothing", "there is no rule with the ID or name 'nothing'"),
        ("telemetry query nothing", ""),
        ("telemetry devices nothing", "(404)"),
        ("telemetry query temperature --aggregation mode", "aggregation"),
        ('echo \'{"name": "x", "metric_name": "m", "condition": "=>"}\' | telemetry add-rule -', "condition"),
        ("telemetry keys create x --scope ingest --device nothing", "device_id"),
    ],
)
def test_refused_request_exits_with_1(shell: Shell, line: str, part: str) -> None:
    result = shell.run(line)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1), result
    assert part in result.err


def test_texts_of_the_site_cannot_change_the_terminal() -> None:
    rows = [{"name": "\x1b[2Jred [bold]x[/bold]\r\u202e"}]
    assert render([("NAME", "name")], rows) == "NAME\n\\x1b[2Jred [bold]x[/bold]\\r\\u202e\n"


@pytest.mark.slow
def test_help_takes_less_than_300_ms(bare_shell: Shell) -> None:
    bare_shell.succeed("telemetry --help")
    milliseconds = "s=$(date +%s%N); telemetry --help >/dev/null; echo $(( ($(date +%s%N) - s) / 1000000 ))"
    times = sorted(int(bare_shell.succeed(milliseconds).out) for _ in range(5))
    assert times[0] < 300, times


# --- profiles -----------------------------------------------------------------------------------------


def test_profiles_that_others_can_read_are_refused(tmp_path: Path) -> None:
    file = ProfileFile(tmp_path / "profiles.json")
    file.path.write_text('{"current": "", "profiles": {}}')
    file.path.chmod(0o644)
    with pytest.raises(Exception, match="can be read by other users: run chmod 600"):
        file.read()


def test_key_of_a_profile_is_not_sent_to_another_url(tmp_path: Path) -> None:
    from telemetry_client.profiles import Profile, find_profile

    file = ProfileFile(tmp_path / "profiles.json")
    file.save(Profile("http://a.example", "tk_a", "a"))
    assert find_profile("", {}, file).api_key == "tk_a"
    assert find_profile("", {"TELEMETRY_URL": "http://b.example"}, file).api_key == ""
    assert find_profile("", {"TELEMETRY_URL": "http://a.example/"}, file).api_key == "tk_a"
    assert find_profile("", {"TELEMETRY_URL": "http://b.example", "TELEMETRY_API_KEY": "tk_b"}, file).api_key == "tk_b"
    assert find_profile("a", {"TELEMETRY_URL": "http://b.example", "TELEMETRY_API_KEY": "tk_b"}, file).api_key == "tk_a"


# --- the REST client ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_request_is_repeated_after_the_time_that_a_busy_site_names() -> None:
    pauses: list[float] = []
    busy = (429, {"Retry-After": "7", **JSON}, b"{}")
    with server(busy, busy, (200, JSON, b'{"devices": []}')) as (url, received):
        assert Site(url, "tk", sleep=pauses.append).get("devices") == {"devices": []}
    assert pauses == [7.0, 7.0] and len(received) == 3


@pytest.mark.slow
def test_busy_site_raises_once_the_patience_is_exceeded() -> None:
    busy = (503, {"Retry-After": "40", "Content-Type": "application/problem+json"}, b'{"detail": "restarting"}')
    pauses: list[float] = []
    with server(busy) as (url, received), pytest.raises(Refused, match=r"\(503\): restarting"):
        Site(url, "tk", sleep=pauses.append).get("devices")
    assert pauses == [40.0] and len(received) == 2


@pytest.mark.slow
def test_redirect_is_not_followed_with_the_key() -> None:
    with server((302, {"Location": "/elsewhere"}, b""), (200, JSON, b"{}")) as (url, received):
        with pytest.raises(NotTheSite, match="redirects to /elsewhere"):
            Site(url, "tk_secret").get("devices")
        assert [request["path"] for request in received] == ["/api/v1/telemetry/devices"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, JSON, b'{"detail": "invalid API key"}'), WrongKey),
        ((502, {"Content-Type": "text/html"}, b"<h1>Bad gateway</h1>"), NotTheSite),
        ((200, JSON | {"Content-Length": "500"}, b'{"devices": ['), Unreachable),
        ((200, JSON, b'{"devices": ['), Unreachable),
        ((404, {"Content-Type": "text/plain"}, b"nothing here"), NotTheSite),
    ],
)
def test_each_failure_has_its_error(answer: Answer, error: type[Exception]) -> None:
    with server(answer) as (url, _), pytest.raises(error) as raised:
        Site(url, "tk", timeout=2).get("devices")
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_dripping_response_ends_after_the_timeout() -> None:
    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.02)  # the server is what is slow

    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with pytest.raises(Unreachable, match=r"exceeds 0\.3 s"):
            Site(f"http://127.0.0.1:{web.server_address[1]}", timeout=0.3).get("devices")
        web.shutdown()


@pytest.mark.slow
def test_certificate_without_a_known_issuer_is_refused_unless_it_is_named(shell: Shell) -> None:
    certificate, key = self_signed(shell.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with server((200, JSON, b'{"devices": [], "next_cursor": null}'), context=context) as (url, _):
        shell.variables["TELEMETRY_URL"] = url
        for command in ("devices", "tail"):
            result = shell.run(f"telemetry {command}")
            assert (result.code, result.out, result.err.count("\n")) == (3, "", 1)
            assert "the certificate is not valid: self-signed certificate" in result.err
        assert shell.succeed(f"SSL_CERT_FILE={certificate} telemetry devices --json").json == []


def test_problem_names_its_fields(admin: ApiClient) -> None:
    with pytest.raises(Refused) as raised:
        site_of(admin).post("alerts/rules", {"name": "", "metric_name": "m", "condition": "=>", "level": "dire"})
    text = str(raised.value)
    assert "\n" not in text and all(f"{name}: " in text for name in ("name", "condition", "level")), text


def test_pages_are_read_to_the_end(admin: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry_client.site.PAGE_SIZE", 3)
    points = {f"device {number}": [point()] for number in range(8)}
    assert admin.post("bulk", points).status == 200
    site = site_of(admin)
    assert [row["device_id"] for row in site.pages("devices", "devices")] == sorted(points)
    assert len(list(site.pages("devices", "devices", 4))) == 4


def test_key_does_not_appear_in_texts_of_the_client(admin: ApiClient) -> None:
    site = Site(url_of(admin), "tk_secret")
    assert "tk_secret" not in repr(site.profile)
