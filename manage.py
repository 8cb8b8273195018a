#!/usr/bin/env python
"""Django's command line for the telemetry site."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")
    from telemetry_site.env import InvalidSetting

    try:
        if sys.argv[1:2] == ["up"]:  # the supervisor runs without Django: it needs a third of the memory
            from telemetry_site.up import main as up

            sys.exit(up(sys.argv[2:]))
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
    except InvalidSetting as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
