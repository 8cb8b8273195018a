"""The kinds of collectors by name."""

from ingest.collection.kinds.agent_health import AgentHealthKind
from ingest.collection.kinds.deployments import DeploymentsKind
from ingest.collection.kinds.docker import DockerKind
from ingest.collection.kinds.host import HostKind
from ingest.collection.kinds.http import HttpKind
from ingest.collection.kinds.kind import Kind
from ingest.collection.kinds.ping import PingKind
from ingest.collection.kinds.prometheus import PrometheusKind
from ingest.collection.kinds.snmp import SnmpKind
from ingest.collection.kinds.tcp import TcpKind
from ingest.collection.kinds.tls import TlsKind
from ingest.collection.kinds.versions import VersionsKind

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        HttpKind(), PingKind(), TcpKind(), TlsKind(), PrometheusKind(), SnmpKind(), DockerKind(), AgentHealthKind(),
        DeploymentsKind(), VersionsKind(), HostKind(),
    )
}  # fmt: skip
