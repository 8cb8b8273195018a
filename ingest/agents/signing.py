"""Signatures of documents for agents, which learn the public key at their installation.

The key follows from SECRET_KEY: after another SECRET_KEY, agents refuse what the site sends until they are installed
again, and go on as before.
"""

import base64
import json
from typing import Any

from django.conf import settings

from ingest.agent import remote_config, updates
from ingest.agents.models import AgentConfiguration
from ingest.agents.site_key import private_key, public_key


def site_key() -> str:
    """Return the public key of the site in base64."""
    return public_key(settings.SECRET_KEY)


def _signature(data: bytes) -> str:
    return base64.b64encode(private_key(settings.SECRET_KEY).sign(data)).decode()


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
