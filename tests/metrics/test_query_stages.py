"""A query goes through its stages in few files, in one direction."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest

from metrics.api.query_views import QueryView
from tests.metrics.test_query_api import AVERAGE_QUERY, RAW_QUERY

ROOT = Path(__file__).parents[2]
APPLICATIONS = ("metrics", "alerts", "ingest", "dashboard")
STORAGE = "metrics/storage/"
MAX_FILES = 10


@contextmanager
def profiled(codes: list[CodeType]) -> Iterator[None]:
    """Record the code of every Python function that is called."""

    def record(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            codes.append(frame.f_code)

    sys.setprofile(record)
    try:
        yield
    finally:
        sys.setprofile(None)


def entered_files(codes: list[CodeType]) -> list[str]:
    """Return the files of the applications, in the order in which they are entered first."""
    files = dict.fromkeys(Path(code.co_filename) for code in codes)
    paths = [path.relative_to(ROOT).as_posix() for path in files if path.is_relative_to(ROOT)]
    return [path for path in paths if path.startswith(APPLICATIONS)]


@pytest.mark.parametrize(
    "body", [AVERAGE_QUERY, AVERAGE_QUERY | {"aggregation": "p95", "group_by": "tag:room"}, RAW_QUERY]
)
def test_query_enters_at_most_10_files_above_storage(day, monkeypatch, body):
    codes: list[CodeType] = []
    post = QueryView.post

    def profiled_post(*given, **named):
        with profiled(codes):
            return post(*given, **named)

    monkeypatch.setattr(QueryView, "post", profiled_post)
    response = day.post("query", body)
    assert response.status == 200, response.raw
    files = entered_files(codes)
    above_storage = [path for path in files if not path.startswith(STORAGE)]
    assert above_storage[0] == QueryView.__module__.replace(".", "/") + ".py"
    assert len(above_storage) <= MAX_FILES, above_storage
    resolve, plan = above_storage.index("metrics/query/execute.py"), above_storage.index("metrics/query/plan.py")
    assert 0 < resolve < plan
