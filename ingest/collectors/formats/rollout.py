"""Adoption and rollout of versions among devices. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from ingest.collectors.reading import Reading

MAX_VERSIONS = 50  # with a metric of their own, the most common ones
MAX_VERSION_LENGTH = 100
_PARTS = re.compile(r"\d+|[A-Za-z]+")


def summarize(versions: Mapping[str, str], target: str = "") -> Iterator[Reading]:
    """Yield the metrics of versions by device. Without a target the highest version is rolled out."""
    counts = Counter(version[:MAX_VERSION_LENGTH] for version in versions.values())
    rolled_out = target or max(counts, key=version_key)
    most_common, devices = counts.most_common(1)[0]
    yield Reading("versions.devices", float(len(versions)))
    yield Reading("versions.distinct", float(len(counts)))
    yield Reading("versions.most_common", most_common)
    yield Reading("versions.adoption_percent", _percent(devices, len(versions)), "%")
    yield Reading("versions.target", rolled_out)
    yield Reading("versions.rollout_percent", _percent(counts.get(rolled_out, 0), len(versions)), "%")
    for version, count in counts.most_common(MAX_VERSIONS):
        yield Reading(f"versions.count.{version}", float(count), tags={"version": version})


def version_key(version: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts 1.10 after 1.9, and 1.0-rc1 before 1.0."""
    numbers, _, rest = version.partition("-")
    parts = [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in _PARTS.findall(numbers)]
    suffix = [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in _PARTS.findall(rest)]
    return [*parts, *((-1, 0, ""), *suffix)] if rest else [*parts, (0, 0, "")]


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 3)
