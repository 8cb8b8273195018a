"""Placeholders in message templates of rules."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.rules.message_template import PLACEHOLDERS, check_template, render


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("{device} is at {value} {unit}", {"device": "a", "value": 91.25, "unit": "°C"}, "a is at 91.25 °C"),
        ("{ device }", {"device": "a"}, "a"),
        ("{value}", {"value": 0.1 + 0.2}, "0.3"),
        ("{value}", {"value": True}, "true"),
        ("{group}!", {}, "!"),
        ("{device.__class__}", {"device": "a"}, "{device.__class__}"),
        ("{device}", {"device": "{value}", "value": 1}, "{value}"),
    ],
    ids=str,
)
def test_known_placeholders_are_replaced(text: str, fields: dict[str, Any], expected: str) -> None:
    assert render(text, fields) == expected


@pytest.mark.parametrize(
    "text", ["{nobody}", "{device.name}", "{0}", "{}", "{device!r}", "{device", "device}", "{{device}}"]
)
def test_invalid_template_is_rejected_with_accepted_placeholders(text: str) -> None:
    assert "{device}, {device_name}, {group}" in (check_template(text) or "")


@given(
    st.lists(
        st.one_of(
            st.sampled_from([f"{{{name}}}" for name in PLACEHOLDERS]),
            st.text().map(lambda text: text.replace("{", "").replace("}", "")),
        )
    )
)
def test_valid_template_renders_without_braces(fragments: list[str]) -> None:
    text = "".join(fragments)
    assert check_template(text) is None
    assert "{" not in render(text, dict.fromkeys(PLACEHOLDERS, 1))


@given(st.text())
def test_any_text_can_be_rendered(text: str) -> None:
    render(text, {})
    check_template(text)
