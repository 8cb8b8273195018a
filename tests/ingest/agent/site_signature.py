"""What a site sends to agents, signed with a key of the tests."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest.agent import remote_config, updates

PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
SITE_KEY = PRIVATE_KEY.public_key().public_bytes_raw()
SITE_KEY_TEXT = base64.b64encode(SITE_KEY).decode()
CONFIG_PATH = "/api/v1/telemetry/devices/box/agent"


def signature(data: bytes, key: Ed25519PrivateKey = PRIVATE_KEY) -> str:
    return base64.b64encode(key.sign(data)).decode()


def signed_config(key: Ed25519PrivateKey = PRIVATE_KEY, **fields: Any) -> bytes:
    """Return the answer of a site to an agent that asks for its configuration."""
    content = {"device_id": "box", "version": 1, "interval": None, "probes": [], **fields}
    document = json.dumps(content)
    signed = {"document": document, "signature": signature(remote_config.PURPOSE + document.encode(), key)}
    return json.dumps({**content, **signed}).encode()


def signed_offer(version: str, sha256: str, key: Ed25519PrivateKey = PRIVATE_KEY) -> bytes:
    """Return the answer of a site to an agent that asks for its program."""
    signed = signature(updates.signed_bytes(version, sha256), key)
    return json.dumps({"version": version, "sha256": sha256, "signature": signed}).encode()
