"""The load generator: a small C program, so that on a machine that client and server share the client takes little."""

import json
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("loadgen.c")


class LoadGenerator:
    """Built into a folder of the run; request files live there too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "loadgen"
        subprocess.run(["cc", "-O2", "-o", self.program, SOURCE], check=True)

    def prepare(self, name: str, requests: Iterable[tuple[int, int, bytes]]) -> Path:
        """A request file of (connection, points, the whole HTTP request)."""
        path = self.folder / f"{name}.requests"
        with path.open("wb") as file:
            file.write(b"RQ01")
            for connection, points, request in requests:
                file.write(struct.pack("<III", connection, points, len(request)) + request)
        return path

    def run(self, port: int, file: Path, connections: int, mode: str = "part") -> dict[str, Any]:
        """`part`: each connection sends its own records; `shared`: any takes the next. Raises unless all are 2xx."""
        words = ["--port", str(port), "--file", str(file), "--conns", str(connections), "--mode", mode]
        done = subprocess.run([str(self.program), *words], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the load generator: {done.stdout[-600:]} {done.stderr[-600:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def request(method: str, path: str, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """One HTTP/1.1 request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers)]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
