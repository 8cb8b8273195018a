"""The page of events matches the definitions."""

import os
from pathlib import Path

import msgspec
import pytest

from metrics.events.event import event_definitions
from telemetry_site.event_documentation import example_data, load_definitions, render_page

PAGE = Path(__file__).parents[2] / "docs" / "integrate" / "events.md"
REQUIRED_TYPES = {
    "metric.defined", "metric.updated", "metric.deleted",
    "alert.rule.created", "alert.rule.updated", "alert.rule.deleted",
    "alert.triggered", "alert.acknowledged", "alert.assigned", "alert.resolved", "alert.updated",
    "device.created", "device.updated", "device.silent", "device.back", "device.deleted",
    "silence.created", "silence.updated", "silence.deleted",
    "job.created", "job.progressed", "job.finished", "job.failed",
    "subscription.created", "subscription.cancelled",
}  # fmt: skip


def test_page_is_generated_from_the_definitions() -> None:
    page = render_page()
    if os.environ.get("WRITE_EVENT_PAGE"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "run with WRITE_EVENT_PAGE=1 to update docs/integrate/events.md"


def test_every_required_type_is_defined() -> None:
    load_definitions()
    assert {definition.type for definition in event_definitions()} >= REQUIRED_TYPES


def test_example_with_a_value_of_another_type_is_rejected() -> None:
    load_definitions()
    [definition] = [found for found in event_definitions() if found.type == "device.silent"]
    example = example_data("device.silent", definition)
    assert msgspec.convert(example, definition).subject == "device/boiler-3"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(example | {"last_seen": "yesterday"}, definition)
