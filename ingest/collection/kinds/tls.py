"""TLS check: days until the certificate of a server expires, and whether its chain is trusted."""

import socket
import ssl
from collections.abc import Mapping
from typing import Any

from ingest.collection.kinds.kind import (
    Collected,
    CollectionJob,
    FieldErrors,
    Kind,
    check_address,
    host_field,
    port_field,
    text_field,
)
from ingest.collectors.formats.certificate import read_certificate
from ingest.collectors.reading import CollectFailed, Reading
from rest.fields import BooleanField, StrictSerializer
from rest.outgoing import ssrf_guard
from rest.outgoing.http_connection import tls_context


class TlsConfiguration(StrictSerializer):
    host = host_field()
    port = port_field(443)
    server_name = text_field("Server name", "Name in the certificate and in SNI; empty: the host.")
    check_chain = BooleanField(
        default=True, label="Check the chain", help_text="A certificate that is not trusted is a failure."
    )


class TlsKind(Kind):
    name, label = "tls", "TLS certificate"
    description = "Days until a certificate expires, and whether its chain is trusted."
    configuration_class = TlsConfiguration

    def target(self, configuration: Mapping[str, Any]) -> str:
        return f"{configuration['host']}:{configuration['port']}"

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        return check_address("host", configuration["host"], configuration["port"])

    def collect(self, job: CollectionJob) -> Collected:
        wanted = job.configuration
        addresses = job.resolve(wanted["host"], wanted["port"])
        certificate, version = _handshake(job, addresses, tls_context(False))
        details = read_certificate(certificate, job.started_at)
        yield Reading("tls.days_left", details.days_left, "d")
        yield Reading("tls.version", version)
        yield Reading("tls.issuer", details.issuer)
        error = ""
        try:
            _handshake(job, addresses, tls_context(True))
        except ssl.SSLCertVerificationError as invalid:
            error = invalid.verify_message or str(invalid)
        yield Reading("tls.chain_valid", 0.0 if error else 1.0)
        yield Reading("tls.chain_error", error or "none")
        if details.days_left < 0:
            raise CollectFailed(f"the certificate expired {-details.days_left:.1f} days ago")
        if error and wanted["check_chain"]:
            raise CollectFailed(f"the certificate is not trusted: {error}")


def _handshake(job: CollectionJob, addresses: list[ssrf_guard.Address], context: ssl.SSLContext) -> tuple[bytes, str]:
    """Return the certificate and the version of TLS. Raises CollectFailed, and SSLCertVerificationError if checked."""
    host, port = job.configuration["host"], job.configuration["port"]
    try:
        raw = ssrf_guard.connect_to_first(addresses, port, job.deadline.remaining)
    except OSError as error:
        raise CollectFailed(f"{host}:{port} does not accept connections: {error.strerror or error}") from None
    with raw:
        try:
            job.deadline.watch(raw)
            raw.settimeout(job.deadline.remaining + 1)  # the deadline cuts the connection before
            with context.wrap_socket(raw, server_hostname=job.configuration["server_name"] or host) as secured:
                return secured.getpeercert(binary_form=True) or b"", secured.version() or ""
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, ValueError) as error:
            raise CollectFailed(_describe(job, error)) from None


def _describe(job: CollectionJob, error: Exception) -> str:
    if job.deadline.expired:
        return f"no TLS handshake within {job.deadline.seconds:g} s"
    if isinstance(error, ssl.SSLError):
        return f"no TLS handshake: {(error.reason or str(error)).replace('_', ' ').lower()}"
    is_closed = isinstance(error, ConnectionResetError | BrokenPipeError | socket.timeout)
    return "no TLS handshake: the server closed the connection" if is_closed else f"no TLS handshake: {error}"
