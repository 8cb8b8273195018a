"""Settings of a NATS server, read from its monitoring port."""

import http.client
from urllib.parse import urlsplit

import msgspec

UNKNOWN, ALWAYS = "unknown", "always"
TIMEOUT = 2.0  # seconds
MAX_BYTES = 1024 * 1024
_SECOND = 1_000_000_000


def read_sync_interval(monitoring_url: str) -> str:
    """Return `always`, an interval such as `120 s`, or `unknown`.

    JetStream acknowledges before it syncs its files, so a crash of the machine loses what was stored since the last
    sync. Only the monitoring port tells the interval, and only from version 2.10 on.
    """
    if not monitoring_url:
        return UNKNOWN
    try:
        parts = urlsplit(monitoring_url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT)
        try:
            connection.request("GET", f"{parts.path.rstrip('/')}/jsz")
            config = msgspec.json.decode(connection.getresponse().read(MAX_BYTES))["config"]
        finally:
            connection.close()
        if config.get("sync_always"):
            return ALWAYS
        interval = config["sync_interval"]
        return f"{interval / _SECOND:g} s" if isinstance(interval, int) else UNKNOWN
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        return UNKNOWN
