"""Servers that collectors of tests ask: HTTP, Unix sockets, TLS, and servers that hang or drip."""

import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = tuple[int, str, bytes]  # status, Content-Type, body


def _handler(answer: Callable[[str, dict[str, str]], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, content_type, body = answer(self.path, dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def address_string(self) -> str:
            return "client"

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def _serving(server: Any) -> Iterator[Any]:
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def http_server(answer: Callable[[str, dict[str, str]], Answer]) -> Iterator[str]:
    """Serve HTTP; yield the URL without a path."""
    with _serving(_Server(("127.0.0.1", 0), _handler(answer))) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"


@contextmanager
def unix_server(path: Path, answer: Callable[[str, dict[str, str]], Answer]) -> Iterator[None]:
    """Serve HTTP on a Unix socket."""
    with _serving(_UnixServer(str(path), _handler(answer))):
        yield


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections and run `talk` with each; yield the port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                talk(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 256

    with _serving(Server(("127.0.0.1", 0), Handler)) as server:
        yield server.server_address[1]


def hang(connection: socket.socket) -> None:
    """Read and never answer, until the client closes."""
    while connection.recv(1024):
        pass


def drip(begin: bytes) -> Callable[[socket.socket], None]:
    """Return a talk that sends a begin, then a byte every 20 ms."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(b" ")
            time.sleep(0.02)

    return talk


def cut(answer: bytes) -> Callable[[socket.socket], None]:
    """Return a talk that reads a request, sends bytes and closes."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return talk


def create_certificate(folder: Path, days_left: float, *, issuer: str = "") -> tuple[Path, Path]:
    """Create a self-signed certificate of localhost; return its file and that of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    issued_by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]) if issuer else name
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issued_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days_left))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"certificate{days_left}.pem", folder / f"key{days_left}.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@contextmanager
def tls_server(certificate: Path, key: Path) -> Iterator[int]:
    """Serve TLS with a certificate; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(10)

    with raw_server(talk) as port:
        yield port
