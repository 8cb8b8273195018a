"""Builds `agent.pyz`, the same bytes for the same source: `python -m ingest.agent.build_zipapp FOLDER`."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

FILE_NAME = "agent.pyz"
_PACKAGE = Path(__file__).resolve().parent
_MAIN = b"import sys\n\nfrom ingest.agent.__main__ import main\n\nsys.exit(main())\n"
_TIME = (1980, 1, 1, 0, 0, 0)
_EXCLUDED = {"build_zipapp.py"}


def build() -> bytes:
    """Return the zipapp."""
    files = {"__main__.py": _MAIN, "ingest/__init__.py": b""}
    for source in sorted(_PACKAGE.glob("*.py")):
        if source.name not in _EXCLUDED:
            files[f"ingest/agent/{source.name}"] = source.read_bytes()
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            # Stored: compressed bytes depend on the version of zlib.
            archive.writestr(entry, content, zipfile.ZIP_STORED)
    return buffer.getvalue()


def write(folder: Path) -> str:
    """Write `agent.pyz` and `agent.pyz.sha256`; return the checksum."""
    content = build()
    checksum = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in ((FILE_NAME, content), (f"{FILE_NAME}.sha256", f"{checksum}  {FILE_NAME}\n".encode())):
        temporary = folder / f".{name}.new"
        temporary.write_bytes(data)
        temporary.replace(folder / name)
    return checksum


if __name__ == "__main__":
    print(write(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
