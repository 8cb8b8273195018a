"""The kinds of collectors by name."""

from ingest.collection.kinds.host import HostKind
from ingest.collection.kinds.http import HttpKind
from ingest.collection.kinds.kind import Kind
from ingest.collection.kinds.ping import PingKind
from ingest.collection.kinds.tcp import TcpKind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (HostKind(), PingKind(), TcpKind(), HttpKind())}
