"""Every acceptance criterion of the PRD has a test that names it."""

import re
from pathlib import Path

import pytest

# Number of criteria of each story of the PRD.
STORIES = {
    "e1": (7, 7, 4, 4),
    "e2": (7, 5, 3, 4),
    "e3": (7, 5, 4, 5, 5),
    "e4": (8, 5, 4, 5, 6, 5, 6),
    "e5": (5, 5, 4),
    "e6": (7, 7, 4, 4),
    "e7": (6,),
}

CRITERIA = [
    f"{epic}_us{story}_ac{number}"
    for epic, counts in STORIES.items()
    for story, count in enumerate(counts, 1)
    for number in range(1, count + 1)
]
NAMED = set(
    re.findall(r"def test_(e\d_us\d_ac\d+)_", "\n".join(file.read_text() for file in Path("tests").rglob("test_*.py")))
)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_has_a_test(criterion: str) -> None:
    assert criterion in NAMED


def test_every_test_names_an_existing_criterion() -> None:
    assert set(CRITERIA) >= NAMED
