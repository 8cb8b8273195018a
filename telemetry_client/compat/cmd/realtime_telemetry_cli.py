"""The command name of the alerting document: `python cmd/realtime_telemetry_cli.py` is `telemetry`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from telemetry_client.cli import main

if __name__ == "__main__":
    main()
