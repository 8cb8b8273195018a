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
        ("{value} of {threshold}", {"value": 99.999999, "threshold": 100.0}, "99.999999 of 100"),
        ("{value}", {"value": 1234567.8}, "1,234,568"),
        (
            "see https://wiki/{device}?v={value}",
            {"device": "a/b c?&#", "value": -1234.5},
            "see https://wiki/a%2Fb%20c%3F%26%23?v=-1234.5",
        ),
        ("(https://wiki/{device}): {device}", {"device": "a b"}, "(https://wiki/a%20b): a b"),
        ("{group}!", {}, "!"),
        ("{device.__class__}", {"device": "a"}, "{device.__class__}"),
        ("{device}", {"device": "{value}", "value": 1}, "{value}"),
    ],
    ids=str,
)
def test_known_placeholders_are_replaced(text: str, fields: dict[str, Any], expected: str) -> None:
    assert render(text, fields) == expected


def test_placeholders_of_an_address_are_percent_encoded() -> None:
    assert render("/runbooks/{device}", {"device": "é/../x y"}, is_url=True) == "/runbooks/%C3%A9%2F..%2Fx%20y"


@pytest.mark.parametrize(
    "text", ["{nobody}", "{device.name}", "{0}", "{}", "{device!r}", "{device", "device}", "{{device}}"]
)
def test_invalid_template_is_rejected_with_accepted_placeholders(text: str) -> None:
    assert "{device}, {device_name}, {group}" in (check_template(text) or "")


@pytest.mark.slow
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
