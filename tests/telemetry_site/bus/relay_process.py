"""Relays to NATS in processes of their own, for tests that kill them: `python -m … URL DATABASE`.

Each line of standard input starts a relay in a new process, whose id is printed. Django is loaded once.
"""

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
    for _ in sys.stdin:
        process = os.fork()
        if not process:
            TargetRelay(NatsTarget(sys.argv[1], "telemetry", ""), poll_interval=0.02).run()
        print(process, flush=True)
        os.waitpid(process, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
