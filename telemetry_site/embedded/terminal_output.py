"""Terminal output of `manage.py up`: progress, durations, and how to use the running site."""

import contextlib
import sys
import time
from pathlib import Path

STORE_COMMAND = """\
curl {api}/devices/demo/telemetry -H 'X-Api-Key: {key}' -H 'Content-Type: application/json' \\
       -d '{{"timestamp": "'$(date -u +%FT%TZ)'", "metric_name": "temperature", "value": 21.5, "unit": "°C"}}'"""
READ_COMMAND = "curl {api}/devices/demo/metrics/temperature/latest -H 'X-Api-Key: {key}'"


class TerminalOutput:
    """Prints lines to standard output. A closed output does not stop the site."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def line(self, text: str) -> None:
        """Print one line; characters that the terminal cannot show are replaced."""
        with contextlib.suppress(OSError, ValueError):
            encoding = sys.stdout.encoding or "ascii"
            print(text.encode(encoding, "replace").decode(encoding), flush=True)

    def event(self, text: str) -> None:
        """Print a line with the time of day."""
        self.line(f"{time.strftime('%H:%M:%S')}  {text}")

    def step(self, text: str) -> None:
        """Print a completed step with the seconds since the start."""
        self.line(f"  {text:<60} {time.monotonic() - self._started:5.1f} s")

    def ready(self, url: str, password: str, key: str) -> None:
        """Print how to open, log in to and send points to the running site. `key` may be empty."""
        api = f"{url}/api/v1/telemetry"
        key_line, key = (key, key) if key else ("created by another machine of this site", "<API key>")
        self.line(f"""
  Open      {url}/
  Log in    user admin, password {password}
  API key   {key_line}

  Store a point and read it back:

     {STORE_COMMAND.format(api=api, key=key)}

     {READ_COMMAND.format(api=api, key=key)}
""")

    def running(self, logs: Path) -> None:
        """Print where the logs are and how to stop."""
        self.line(f"  Logs are in {logs}. Press Ctrl-C to stop the site.\n")
