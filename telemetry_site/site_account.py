"""The account of web, worker, beat and host collector: when root starts the site, that of the embedded servers.

Code that answers requests and calls webhooks then cannot act as root. The account can log in to the embedded database
as the site's role, not as a superuser; that gives it nothing new, because it owns the files of the database. Other
programs of the account share these rights, therefore an account `telemetry` is preferred to `nobody`.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

from telemetry_site import settings
from telemetry_site.embedded.server_account import ServerAccount, server_account
from telemetry_site.embedded.site_processes import Runtime, beat_schedule
from telemetry_site.env import BASE_DIR, InvalidSetting

CHECK_TIMEOUT = 120  # seconds


class UnusableAccount(Exception):
    """An account cannot run the site's processes; the message is one line."""


def without_root(runtime: Runtime, warn: Callable[[str], None]) -> Runtime:
    """Return a runtime of the unprivileged account if this is root; warn and keep root if it cannot run the site."""
    if os.geteuid() != 0:
        return runtime
    try:
        account = server_account(runtime.data_folder.postgres_dir)
        environment = {**runtime.environment, **account.environment(), "SECRET_KEY": settings.SECRET_KEY}
        unprivileged = replace(runtime, account=account, environment=environment)
        if not settings.EXPORTS_DIR.exists():
            account.take_ownership(settings.EXPORTS_DIR)
        _check(unprivileged, account)
        _hand_over_files(unprivileged, account)
    except (InvalidSetting, UnusableAccount, OSError) as error:
        warn(f"  Warning: web, worker, beat and host collector run as root: {error}")
        return runtime
    return unprivileged


def _check(runtime: Runtime, account: ServerAccount) -> None:
    """Run the check of account_check under the account. Raises UnusableAccount."""
    try:
        completed = subprocess.run(
            [sys.executable, "-m", "telemetry_site.account_check"],
            cwd=BASE_DIR,
            env=runtime.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHECK_TIMEOUT,
            **account.popen_arguments(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnusableAccount(f"account {account.name} cannot run {sys.executable} ({error})") from None
    if completed.returncode != 0:
        reason = (completed.stderr.strip().splitlines() or ["no reason is known"])[-1]
        raise UnusableAccount(f"account {account.name} cannot run the site ({reason})")


def _hand_over_files(runtime: Runtime, account: ServerAccount) -> None:
    """Make the account the owner of the files that its processes use. Secret key, password and API key stay root's."""
    data_folder = runtime.data_folder
    account.take_ownership(beat_schedule(runtime).parent)
    account.take_ownership(data_folder.host_agent_dir)
    if settings.EXPORTS_DIR.is_relative_to(data_folder.path):
        account.take_ownership(settings.EXPORTS_DIR)
    data_folder.host_device_id()  # created now if it is missing, since the account cannot create files in the folder
    if not settings.SECRETS_KEYS:
        data_folder.secrets_keys()
    owned = (data_folder.path / "host_device_id", data_folder.host_collector_key_file, data_folder.secrets_keys_file)
    for path in owned:
        if path.exists():
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
