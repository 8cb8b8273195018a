"""Conversion of snapshots into a bulk request."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.agent.bulk import bulk_body
from ingest.wire.snapshot import decode_snapshot
from ingest.wire.telemetry_json import decode_bulk

VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-1000, 1000), st.booleans(), st.text(max_size=5)
)
NAMES = st.text("abc.", min_size=1, max_size=4)
FIELDS = st.recursive(VALUES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


@pytest.mark.slow
@given(fields=st.dictionaries(st.one_of(NAMES, st.just("metrics")), FIELDS, min_size=1, max_size=4))
def test_bulk_request_stores_the_same_series_as_the_snapshot(fields: dict[str, Any]) -> None:
    document = {"node_id": "box", "timestamp": "2027-01-15T08:00:00Z", **fields}
    body = bulk_body([document])
    if not body["box"]:
        return
    one, many = decode_snapshot(json.dumps(document).encode()), decode_bulk(json.dumps(body).encode())

    def stored(batch: Any) -> list[tuple[Any, ...]]:
        return [
            (group.device_id, batch.metrics[index], int(batch.times[index]), batch.values[index])
            for group in batch.groups
            for index in range(group.start, group.stop)
        ]

    assert stored(one) == stored(many)
    assert len(one.rejected) == len(many.rejected)
