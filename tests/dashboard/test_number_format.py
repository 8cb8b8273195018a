"""Values and durations as text, on the server and in scripts."""

import pytest

from dashboard.number_format import duration_text, reading
from tests.dashboard.conftest import BrowserPage

CASES = [
    (0, "", "0", ""),
    (-0.0, "°C", "0", "°C"),
    (21.5, "°C", "21.50", "°C"),
    (21.0, "celsius", "21", "°C"),
    (-3.14159, "°C", "−3.14", "°C"),
    (0.4737, "%", "0.474", "%"),
    (0.01234, "A", "0.0123", "A"),
    (0.0072, "A", "0.00720", "A"),
    (0.00012345, "", "0.000123", ""),
    (0.00001234, "", "1.23e−5", ""),
    (123.456, "V", "123.5", "V"),
    (1234567.8, "", "1,234,568", ""),
    (2.5e20, "", "2.50e20", ""),
    (999, "B", "999", "B"),
    (8_290_000_000, "bytes", "8.29", "GB"),
    (-1500, "B/s", "−1.50", "kB/s"),
    (90, "s", "90", "s"),
    (360_000, "seconds", "4 d 4 h", ""),
    (True, "", "on", ""),
    (False, None, "off", ""),
    ("2.4.1", "", "2.4.1", ""),
    ("x" * 100, "", "x" * 79 + "…", ""),
    ({"a": [1, None]}, "", '{"a":[1,null]}', ""),
    ({"latitude": 54.3, "longitude": -10.1}, "", "54.3, −10.1", ""),
]
AGES = [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (7500, "2 h 5 min"),
        (40_000, "11 h"), (90_000, "1 d 1 h"), (86_400 * 2000, "2,000 d")]  # fmt: skip


@pytest.mark.parametrize(("value", "unit", "text", "symbol"), CASES)
def test_values_are_formatted_with_units(value, unit, text, symbol):
    formatted, formatted_symbol = reading(value, unit)
    assert (formatted.replace("\xa0", " "), formatted_symbol) == (text, symbol)


@pytest.mark.parametrize(("seconds", "text"), AGES)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration_text(seconds).replace("\xa0", " ") == text


@pytest.mark.slow
def test_script_formats_values_as_the_server_does(desktop: BrowserPage):
    desktop.open("/login/")
    formatted = desktop.page.evaluate(
        """async ([cases, ages]) => {
            const { reading, durationText } = await import("/static/dashboard/number_format.js");
            return [cases.map(([value, unit]) => reading(value, unit ?? "")), ages.map(durationText)];
        }""",
        [[case[:2] for case in CASES], [age[0] for age in AGES]],
    )
    assert formatted == [[list(reading(*case[:2])) for case in CASES], [duration_text(age[0]) for age in AGES]]
