"""Expiry and issuer of a certificate. Pure."""

from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509

from ingest.collectors.reading import CollectFailed

MAX_ISSUER_LENGTH = 300


class CertificateDetails(NamedTuple):
    """`days_left` is negative after the expiry."""

    days_left: float
    issuer: str


def read_certificate(der: bytes, now: datetime) -> CertificateDetails:
    """Return the details of a certificate in DER. Raises CollectFailed."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        days = (certificate.not_valid_after_utc - now) / timedelta(days=1)
        issuer = certificate.issuer.rfc4514_string()
    except ValueError as error:
        raise CollectFailed(f"the server sent no certificate that can be read: {error}") from None
    return CertificateDetails(round(days, 3), issuer[:MAX_ISSUER_LENGTH] or "none")
