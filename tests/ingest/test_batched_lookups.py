"""Concurrent lookups become one query."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ingest.authentication import find_caller_async
from ingest.identity import batched_lookups, keys
from ingest.identity.batched_lookups import BatchedLookups
from ingest.models import ApiKey
from rest.caller import Caller


class Source:
    """Counts its lookups, and raises an error for the name `broken`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def look_up(self, names: Sequence[str]) -> Mapping[str, str]:
        self.batches.append(list(names))
        await asyncio.sleep(0)
        if "broken" in names:
            raise OSError("no connection")
        return {name: name.upper() for name in names}


async def test_names_requested_during_a_lookup_are_looked_up_together():
    source = Source()
    lookups = BatchedLookups(source.look_up)
    names = [f"n{number}" for number in range(50)]
    assert await asyncio.gather(*(lookups.find(name) for name in names)) == [name.upper() for name in names]
    assert source.batches == [names]


async def test_same_name_is_looked_up_once():
    source = Source()
    lookups = BatchedLookups(source.look_up)
    assert await asyncio.gather(*(lookups.find("a") for _ in range(5))) == ["A"] * 5
    assert source.batches == [["a"]]


async def test_batches_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batched_lookups, "MAX_BATCH", 20)
    source = Source()
    lookups = BatchedLookups(source.look_up)
    await asyncio.gather(*(lookups.find(f"n{number}") for number in range(50)))
    assert [len(batch) for batch in source.batches] == [20, 20, 10]


async def test_error_reaches_all_that_wait_and_none_later():
    source = Source()
    lookups = BatchedLookups(source.look_up)
    results = await asyncio.gather(lookups.find("broken"), lookups.find("a"), return_exceptions=True)
    assert [str(result) for result in results] == ["no connection"] * 2
    assert await lookups.find("a") == "A"


async def test_cancelled_request_does_not_cancel_the_lookup_of_others():
    source = Source()
    lookups = BatchedLookups(source.look_up)
    first = asyncio.create_task(lookups.find("a"))
    second = asyncio.create_task(lookups.find("a"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "A"


def test_keys_of_many_agents_are_looked_up_together(site: None, monkeypatch: pytest.MonkeyPatch):
    texts = [ApiKey.issue(f"agent {number}", "ingest")[1] for number in range(30)]
    batches: list[list[str]] = []
    find_owners = keys.find_owners

    def recorded(batch: list[str]) -> Mapping[str, Any]:
        batches.append(batch)
        return find_owners(batch)

    async def find_all() -> list[Caller | None]:
        return await asyncio.gather(*(find_caller_async(text) for text in [*texts, "tk_unknown"]))

    monkeypatch.setattr(keys, "find_owners", recorded)
    *callers, unknown = asyncio.run(find_all())
    assert [caller.name.rpartition(":")[2] for caller in callers if caller] == [f"agent {n}" for n in range(30)]
    assert unknown is None
    assert batches == [[*texts, "tk_unknown"]]
