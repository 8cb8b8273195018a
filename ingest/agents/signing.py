"""The key with which the site signs what it sends to agents. It follows from SECRET_KEY, so all machines have the same.

Agents learn the public key at their installation. Another SECRET_KEY needs another installation of each agent.
"""

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from ingest.agent import remote_config, updates
from ingest.agents.models import AgentConfiguration

_LABEL = b"telemetry agent signing key"


def _private_key() -> Ed25519PrivateKey:
    seed = hmac.new(settings.SECRET_KEY.encode(), _LABEL, hashlib.sha256).digest()
    return Ed25519PrivateKey.from_private_bytes(seed)


def site_key() -> str:
    """Return the public key in base64, as the option `site_key` of an agent has it."""
    return base64.b64encode(_private_key().public_key().public_bytes_raw()).decode()


def _signature(data: bytes) -> str:
    return base64.b64encode(_private_key().sign(data)).decode()


def sign_program(version: str, sha256: str) -> str:
    """Return the signature of the agent's program."""
    return _signature(updates.signed_bytes(version, sha256))


def sign_configuration(configuration: AgentConfiguration) -> dict[str, Any]:
    """Return the document of a configuration as a text, and its signature."""
    fields = {
        "device_id": configuration.device.device_id,
        "version": configuration.version,
        "interval": configuration.interval,
        "probes": configuration.probes,
    }
    document = json.dumps(fields, separators=(",", ":"))
    return {"document": document, "signature": _signature(remote_config.PURPOSE + document.encode())}
