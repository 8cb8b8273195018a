"""A relay to NATS in a process of its own, for tests that kill it: `python -m … URL` relays until it is killed."""

import os
import sys


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")
    django.setup()
    from django.conf import settings

    from telemetry_site.bus.relay import TargetRelay
    from telemetry_site.bus.targets.nats_target import NatsTarget

    settings.DATABASES["default"]["NAME"] = sys.argv[2]
    relay = TargetRelay(NatsTarget(sys.argv[1], "telemetry", ""), poll_interval=0.02)
    print("started", flush=True)
    relay.run()


if __name__ == "__main__":
    main()
