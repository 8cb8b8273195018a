"""The HTTP client over TLS."""

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ingest.agent.answers import Action
from ingest.agent.poster import TelemetryPoster
from tests.ingest.agent.conftest import RecordingSite, snapshot


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a self-signed certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + signed.public_bytes(serialization.Encoding.PEM)
    path = tmp_path / "site.pem"
    path.write_bytes(pem)
    return path


@pytest.fixture
def tls_url(recording_site: RecordingSite, certificate: Path) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    recording_site._server.socket = context.wrap_socket(recording_site._server.socket, server_side=True)
    return recording_site.url.replace("http:", "https:")


def test_snapshots_are_sent_over_one_trusted_connection(
    tls_url: str, recording_site: RecordingSite, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    poster = TelemetryPoster(tls_url)
    assert poster.post_snapshot(snapshot(1, text="x" * 300_000)) == (True, None)
    assert poster.post_snapshot(snapshot(2)) == (True, None)
    assert len({request["port"] for request in recording_site.requests}) == 1
    poster.close()


def test_untrusted_certificate_keeps_the_snapshot_for_a_slow_retry(tls_url: str) -> None:
    poster = TelemetryPoster(tls_url)
    outcome = poster.post_batch([snapshot(1)])
    assert (outcome.action, outcome.code) == (Action.DENIED, "certificate_error")
    assert "self" in outcome.detail
    assert poster.pause(0, outcome) >= 48
    poster.close()
