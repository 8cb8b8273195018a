"""Values and durations as text, on the server and in scripts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.value_text import align, duration_text, number_text, reading, with_unit
from tests.dashboard.conftest import BrowserPage

CASES = [
    (0, "", "0", ""),
    (-0.0, "°C", "0", "°C"),
    (21.5, "°C", "21.5", "°C"),
    (21.0, "celsius", "21", "°C"),
    (-3.14159, "°C", "−3.1416", "°C"),
    (0.4737, "%", "0.4737", "%"),
    (0.01234, "A", "0.01234", "A"),
    (0.0072, "A", "0.0072", "A"),
    (0.000123456, "", "0.00012346", ""),
    (0.00001234, "", "1.234e−5", ""),
    (123.456, "V", "123.46", "V"),
    (99.99999, "", "100", ""),
    (1234.25, "", "1,234.3", ""),
    (-1234567.8, "", "−1,234,568", ""),
    (123456789012345.6, "", "123,456,789,012,346", ""),
    (2.5e20, "", "2.5e20", ""),
    (-1.7976931348623157e308, "", "−1.7977e308", ""),
    (5e-324, "", "4.9407e−324", ""),
    (999, "B", "999", "B"),
    (8_290_000_000, "bytes", "8.29", "GB"),
    (-1500, "B/s", "−1.5", "kB/s"),
    (90, "s", "90", "s"),
    (360_000, "seconds", "4 d 4 h", ""),
    (True, "", "true", ""),
    (False, None, "false", ""),
    ("2.4.1", "", "2.4.1", ""),
    ("x" * 100, "", "x" * 79 + "…", ""),
    ({"a": [1, None]}, "", '{"a":[1,null]}', ""),
    ({"latitude": 54.3, "longitude": -10.1}, "", "54.3, −10.1", ""),
]
PAIRS = [
    (99.99999, 100.0, "99.99999", "100"),
    (100.00001, 100.0, "100.00001", "100"),
    (0.1 + 0.2, 0.3, "0.30000000000000004", "0.3"),
    (1234567.89, 1234567.8, "1,234,567.9", "1,234,567.8"),
    (1e-7, 1.0000000000000001e-7, "1e−7", "1.0000000000000001e−7"),
    (-0.00012345678, -0.00012345677, "−0.00012345678", "−0.00012345677"),
    (21.5, 21.5, "21.5", "21.5"),
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


@pytest.mark.parametrize(("value", "other", "text", "other_text"), PAIRS)
def test_value_and_threshold_have_as_many_digits_as_distinguish_them(value, other, text, other_text):
    assert (number_text(value, other), number_text(other, value)) == (text, other_text)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NEIGHBOURS = st.tuples(NUMBERS, st.integers(-3, 3)).map(
    lambda pair: (pair[0], pair[0] if not pair[1] else math.nextafter(pair[0], math.copysign(math.inf, pair[1])))
)
UNITS = st.sampled_from(["", "°C", "%", "s", "B", "bytes/s", "W"])


def parse(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


@given(st.floats(-1e308, 1e308))
def test_text_of_a_number_is_close_to_it_and_without_exponent_in_ordinary_sizes(number):
    text = number_text(number)
    assert math.isclose(parse(text), number, rel_tol=1e-4) or (number == 0 and text == "0")
    assert ("e" in text) == (number != 0 and not 1e-4 <= abs(number) < 1e15)
    assert "." not in text or not text.split("e")[0].endswith("0")


@pytest.mark.slow
@given(st.one_of(st.tuples(NUMBERS, NUMBERS), NEIGHBOURS), UNITS)
def test_texts_differ_where_numbers_differ(pair, unit):
    value, threshold = pair
    texts = with_unit(value, unit, threshold), with_unit(threshold, unit, value)
    assert (texts[0] == texts[1]) == (value == threshold)


@pytest.mark.slow
@given(st.lists(st.floats(1e-3, 1e12).map(lambda number: round(number, 4)), max_size=20))
def test_list_of_numbers_has_one_format(numbers):
    texts = align([with_unit(number, "°C") for number in numbers])
    assert len({len(text.partition("\xa0")[0].partition(".")[2]) for text in texts}) <= 1
    for text, number in zip(texts, numbers, strict=True):
        assert math.isclose(parse(text.partition("\xa0")[0]), number, rel_tol=1e-4, abs_tol=1e-7)


def test_list_keeps_exponents_and_missing_values():
    assert align(["38.4", "38.45", "no data", "1.2e−7", "7"]) == ["38.40", "38.45", "no data", "1.2e−7", "7.00"]
    assert align(["1,234", "7"]) == ["1,234", "7"]


@pytest.mark.slow
def test_script_formats_values_as_the_server_does(desktop: BrowserPage):
    desktop.open("/login/")
    formatted = desktop.page.evaluate(
        """async ([cases, pairs, ages]) => {
            const module = await import("/static/dashboard/number_format.js");
            const { reading, numberText, pointTexts, durationText } = module;
            const numbers = cases.map(([value]) => (typeof value === "number" ? value : null));
            const column = pointTexts(numbers, { unit: "°C" });
            return [
                cases.map(([value, unit]) => reading(value, unit ?? "")),
                pairs.map(([value, other]) => [numberText(value, other), numberText(other, value)]),
                column,
                ages.map(durationText),
            ];
        }""",
        [[case[:2] for case in CASES], [pair[:2] for pair in PAIRS], [age[0] for age in AGES]],
    )
    numbers = [case[0] if type(case[0]) in (int, float) else None for case in CASES]
    assert formatted == [
        [list(reading(*case[:2])) for case in CASES],
        [list(pair[2:]) for pair in PAIRS],
        align([with_unit(number, "°C") for number in numbers]),
        [duration_text(age[0]) for age in AGES],
    ]
