"""HTTP load generator: a C program that takes little CPU time on the machine it shares with the server."""

import json
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("loadgen.c")


class LoadGenerator:
    """Compiled load generator in a folder that also holds the request files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "loadgen"
        subprocess.run(["cc", "-O2", "-o", self.program, SOURCE], check=True)

    def prepare(self, name: str, requests: Iterable[tuple[int, int, bytes]]) -> Path:
        """Write a request file of (connection, points, HTTP request). Returns its path."""
        path = self.folder / f"{name}.requests"
        with path.open("wb") as file:
            file.write(b"RQ01")
            for connection, points, request in requests:
                file.write(struct.pack("<III", connection, points, len(request)) + request)
        return path

    def run(self, port: int, file: Path, connections: int, mode: str = "part") -> dict[str, Any]:
        """Send the requests of a file and return the statistics. Raises RuntimeError unless all responses are 2xx.

        mode  `part`: each connection sends its own requests; `shared`: any connection sends the next request
        """
        words = ["--port", str(port), "--file", str(file), "--conns", str(connections), "--mode", mode]
        done = subprocess.run([str(self.program), *words], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"load generator failed: {done.stdout[-600:]} {done.stderr[-600:]}")
        statistics: dict[str, Any] = json.loads(done.stdout)
        return statistics


def request(method: str, path: str, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Build an HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers)]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
