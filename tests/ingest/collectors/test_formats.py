"""Pure parts of collectors: JSON paths, schedules, ICMP packets, versions, values of SNMP."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.collectors.formats.deployment_state import read_deployments
from ingest.collectors.formats.icmp import build_request, parse_reply
from ingest.collectors.formats.json_paths import MAX_MATCHES, check_path, find_values
from ingest.collectors.formats.rollout import version_key
from ingest.collectors.formats.snmp_values import check_oid
from ingest.collectors.reading import CollectFailed
from ingest.collectors.schedule import next_due, offset_of

DOCUMENT = {
    "queue": {"depth": 3, "name": "mail", "paused": False},
    "workers": [{"load": 0.5}, {"load": 1.5}],
    "nothing": None,
    "many": list(range(MAX_MATCHES + 1)),
}


def values(paths: dict[str, str], optional: bool = False, document: Any = DOCUMENT) -> tuple[dict[str, Any], str]:
    found: dict[str, Any] = {}
    try:
        for name, value in find_values(document, paths, optional=optional):
            found[name] = value
    except CollectFailed as error:
        return found, str(error)
    return found, ""


def test_paths_find_numbers_texts_and_booleans() -> None:
    paths = {"depth": "$.queue.depth", "name": "$['queue']['name']", "paused": "$.queue.paused"}
    assert values(paths) == ({"depth": 3, "name": "mail", "paused": False}, "")


def test_several_matches_get_their_position_as_a_suffix() -> None:
    assert values({"load": "$.workers[*].load"}) == ({"load.0": 0.5, "load.1": 1.5}, "")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("$.missing", "$.missing matches nothing"),
        ("$", "$ matches an object: a number, a text, true or false is accepted"),
        ("$.workers", "$.workers matches an array: a number, a text, true or false is accepted"),
        ("$..*", "$..* matches more than 100 values"),
        ("$.many[*]", "$.many[*] matches more than 100 values"),
        ("$.nothing", "$.nothing matches null: a number, a text, true or false is accepted"),
    ],
)
def test_path_without_single_values_is_a_clear_error_and_keeps_the_others(path: str, error: str) -> None:
    assert values({"bad": path, "depth": "$.queue.depth"}) == ({"depth": 3}, error)


def test_optional_paths_fail_only_if_none_matches() -> None:
    assert values({"a": "$.queue.depth", "b": "$.b"}, optional=True) == ({"a": 3}, "")
    assert values({"a": "$.a", "b": "$.b"}, optional=True) == ({}, "none of the paths matches: $.a, $.b")
    assert values({"a": "$.a"}, optional=True, document=[])[1] == "none of the paths matches: $.a"


@pytest.mark.parametrize("path", ["", "a.b", "$[", "$." + "a" * 500, 7, "$[?", "$['a"])
def test_invalid_path_is_explained(path: Any) -> None:
    assert check_path(path)


@given(
    st.integers(1, 86_400), st.floats(0, 1, exclude_max=True), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))
)
def test_next_due_time_is_after_the_time_and_at_most_an_interval_later(interval: int, part: float, after: Any) -> None:
    at = after.replace(tzinfo=UTC)
    due = next_due(at, interval, part * interval)
    assert at < due <= at + timedelta(seconds=interval, microseconds=2)
    following = next_due(due, interval, part * interval)
    assert abs((following - due).total_seconds() - interval) < 1e-3


def test_offsets_are_stable_and_spread_over_the_interval() -> None:
    offsets = sorted(offset_of(f"col_{number}", 10) for number in range(1000))
    assert offset_of("col_1", 10) == offset_of("col_1", 10)
    assert offset_of("col_1", 0) == 0
    assert all(abs(offset - number / 100) < 0.6 for number, offset in enumerate(offsets))


@given(st.binary(max_size=100), st.sampled_from([4, 6]))
def test_any_packet_but_the_reply_is_ignored(packet: bytes, version: int) -> None:
    assert parse_reply(version, packet, b"token") is None


@pytest.mark.parametrize("version", [4, 6])
def test_echo_reply_is_recognised(version: int) -> None:
    request = build_request(version, 7, b"token")
    reply = bytes([{4: 0, 6: 129}[version]]) + request[1:]
    parsed = parse_reply(version, reply, b"token")
    assert parsed is not None and parsed.sequence == 7
    assert parse_reply(version, reply, b"other") is None


def test_versions_sort_by_number_and_before_their_pre_releases() -> None:
    ordered = ["0.9", "1.0-alpha", "1.0-rc1", "1.0-rc2", "1.0", "1.0.1", "1.9", "1.10", "2", "10.0"]
    shuffled = random.Random(7).sample(ordered, len(ordered))
    assert sorted(shuffled, key=version_key) == ordered


@pytest.mark.slow
@given(st.lists(st.text(max_size=20), min_size=2, max_size=5))
def test_any_versions_can_be_compared(texts: list[str]) -> None:
    sorted(texts, key=version_key)


@pytest.mark.parametrize("oid", ["1.3.6.1.2.1.1.3.0", ".1.3.6", "1.3.6.1.2.1.2.2.1.10.*"])
def test_oid_is_accepted(oid: str) -> None:
    assert check_oid(oid) is None


@pytest.mark.parametrize("oid", ["", "1", "3.1.2", "1.3.x", "1.3.6.4294967296", "1.3.*.1", "1..3", "sysUpTime.0"])
def test_invalid_oid_is_explained(oid: str) -> None:
    assert check_oid(oid)


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["id", "version", "state", "updated_at", "x"]), inner, max_size=5)
        ),
        max_leaves=12,
    )
)
def test_any_document_of_deployments_is_read_or_refused(document: Any) -> None:
    try:
        deployments = read_deployments(document)
    except CollectFailed:
        return
    assert all(deployment.version and deployment.state for deployment in deployments)
