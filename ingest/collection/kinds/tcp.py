"""TCP check: whether a port accepts connections, and how long that takes."""

from collections.abc import Mapping
from typing import Any

from ingest.collection.kinds.kind import (
    Collected,
    CollectionJob,
    FieldErrors,
    Kind,
    check_address,
    host_field,
    port_field,
)
from ingest.collectors.reading import CollectFailed, Reading
from rest.fields import StrictSerializer
from rest.outgoing import ssrf_guard


class TcpConfiguration(StrictSerializer):
    host = host_field()
    port = port_field()


class TcpKind(Kind):
    name, label, description = "tcp", "TCP port", "Whether a TCP port accepts connections."
    configuration_class = TcpConfiguration

    def target(self, configuration: Mapping[str, Any]) -> str:
        return f"{configuration['host']}:{configuration['port']}"

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        return check_address("host", configuration["host"], configuration["port"])

    def collect(self, job: CollectionJob) -> Collected:
        host, port = job.configuration["host"], job.configuration["port"]
        addresses = job.resolve(host, port)
        began = job.elapsed_ms
        try:
            connection = ssrf_guard.connect_to_first(addresses, port, job.deadline.remaining)
        except OSError as error:
            yield Reading(f"tcp.{port}.up", 0.0)
            raise CollectFailed(f"{host}:{port} does not accept connections: {error.strerror or error}") from None
        connection.close()
        yield Reading(f"tcp.{port}.up", 1.0)
        yield Reading(f"tcp.{port}.connect_ms", round(job.elapsed_ms - began, 3), "ms")
