"""The key pair that signs documents for agents, derived from SECRET_KEY: the same on all machines. Pure."""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_LABEL = b"telemetry agent signing key"


def private_key(secret_key: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hmac.new(secret_key.encode(), _LABEL, hashlib.sha256).digest())


def public_key(secret_key: str) -> str:
    """Return the public key in base64, as the option `site_key` of an agent has it."""
    return base64.b64encode(private_key(secret_key).public_key().public_bytes_raw()).decode()
