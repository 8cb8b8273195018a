"""What `up` prints: what it does, how long that took, and how to use what runs now."""

import contextlib
import sys
import time
from pathlib import Path

CURL = """\
curl {api}/devices/demo/telemetry -H 'X-Api-Key: {key}' -H 'Content-Type: application/json' \\
       -d '{{"timestamp": "'$(date -u +%FT%TZ)'", "metric_name": "temperature", "value": 21.5, "unit": "°C"}}'"""
CURL_BACK = "curl {api}/devices/demo/metrics/temperature/latest -H 'X-Api-Key: {key}'"


class Screen:
    """Lines on standard output. A reader that went away does not stop the site."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            encoding = sys.stdout.encoding or "ascii"
            print(text.encode(encoding, "replace").decode(encoding), flush=True)

    def event(self, text: str) -> None:
        self.say(f"{time.strftime('%H:%M:%S')}  {text}")

    def done(self, text: str) -> None:
        self.say(f"  {text:<60} {time.monotonic() - self._begun:5.1f} s")

    def ready(self, url: str, password: str, key: str, logs: Path) -> None:
        api = f"{url}/api/v1/telemetry"
        self.say(f"""
  Open      {url}/
  Log in    admin, password {password}
  API key   {key}

  Store a measurement, and read it back:

     {CURL.format(api=api, key=key)}

     {CURL_BACK.format(api=api, key=key)}

  Logs are in {logs}. Ctrl-C stops everything.
""")
