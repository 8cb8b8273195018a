"""`python -m telemetry_client`: the `telemetry` command without an installation."""

from telemetry_client.cli import main

if __name__ == "__main__":
    main()
