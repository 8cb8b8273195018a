"""Texts that users read: no phrases that hide what the software does, and templates with readable lines."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checks import commit_subjects
from tests.telemetry_site.site_process import ROOT

PACKAGES = ("telemetry_site", "dashboard", "alerts", "ingest", "metrics", "rest")
MAX_TEMPLATE_LINE = 160
BANNED = re.compile(
    r"\b(whoever|whatever (?:comes|goes)|nobody is|somebody|anew|afresh|is told|are told|was told|heard of"
    r"|makes no sense|well again|put back|let go|in hand|at hand|goes well|amounts? to|as it was meant)\b",
    re.IGNORECASE,
)
TEXT_ARGUMENTS = {"help_text", "description", "verbose_name", "label", "detail", "summary", "help"}


def product_files(pattern: str) -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in sorted((ROOT / package).rglob(pattern)) if "migrations" not in path.parts)


def strings_in(node: ast.AST) -> Iterator[ast.Constant]:
    yield from (part for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))


def user_texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """Text arguments of calls, and the messages of raised exceptions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg in TEXT_ARGUMENTS:
                    yield from strings_in(keyword.value)
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield from strings_in(node.exc)


def templates() -> list[Path]:
    return sorted((ROOT / "templates").rglob("*.html"))


@pytest.mark.slow
def test_texts_of_the_api_and_errors_use_no_banned_phrase() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{text.lineno}: {text.value!r}"
        for path in product_files("*.py")
        for text in user_texts(ast.parse(path.read_text()))
        if BANNED.search(text.value)
    ]
    assert found == []


def test_templates_use_no_banned_phrase() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in templates()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if BANNED.search(line)
    ]
    assert found == []


def test_template_lines_have_at_most_160_characters() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in templates()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > MAX_TEMPLATE_LINE
    ]
    assert found == []


@pytest.mark.parametrize(
    ("subject", "is_valid"),
    [
        ("storage: Name block readers after their result", True),
        ("tests/alerts: Mark slow tests", True),
        ("wip", False),
        ("storage: name block readers", False),
        ("storage: Name block readers.", False),
    ],
)
def test_commit_subject_has_an_area_and_a_capitalized_sentence_without_full_stop(subject: str, is_valid: bool) -> None:
    assert bool(commit_subjects.SUBJECT.fullmatch(subject)) == is_valid
