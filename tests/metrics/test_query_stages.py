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
    """Return the files of the applications, in the order in which they are entered; of calls within a file one."""
    paths = [Path(code.co_filename) for code in codes]
    files = [path.relative_to(ROOT).as_posix() for path in paths if path.is_relative_to(ROOT)]
    files = [path for path in files if path.startswith(APPLICATIONS)]
    return [path for path, previous in zip(files, ["", *files], strict=False) if path != previous]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "stages", "max_files_above_storage", "max_files"),
    [
        (AVERAGE_QUERY, "metrics/query/aggregate.py", 10, 23),
        (AVERAGE_QUERY | {"aggregation": "p95", "group_by": "tag:room"}, "metrics/query/aggregate.py", 10, 23),
        (RAW_QUERY, "metrics/query/raw_points.py", 7, 21),
        (RAW_QUERY | {"max_points": 10}, "metrics/query/raw_points.py", 7, 21),
    ],
)
def test_query_enters_at_most_10_files_above_storage_stage_after_stage(
    day, monkeypatch, body, stages, max_files_above_storage, max_files
):
    codes: list[CodeType] = []
    post = QueryView.post

    def profiled_post(*given, **named):
        with profiled(codes):
            return post(*given, **named)

    monkeypatch.setattr(QueryView, "post", profiled_post)
    response = day.post("query", body)
    assert response.status == 200, response.raw
    entries = entered_files(codes)
    files = list(dict.fromkeys(entries))
    above_storage = [path for path in files if not path.startswith(STORAGE)]
    assert above_storage[0] == QueryView.__module__.replace(".", "/") + ".py"
    assert len(above_storage) <= max_files_above_storage, above_storage
    assert len(files) <= max_files, files
    first, last = entries.index(stages), len(entries) - 1 - entries[::-1].index(stages)
    before, after_validation = entries[:first], set(entries[first:last])
    validation = len(before) - 1 - before[::-1].index("metrics/query/query.py")  # the form has checked single values
    assert before.index("metrics/query/execute.py") < validation
    assert not after_validation & {"metrics/query/execute.py", "metrics/query/query.py"}
    assert "metrics/query/plan.py" in after_validation
