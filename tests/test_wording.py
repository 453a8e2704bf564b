"""How numbers are written in what users read."""

from __future__ import annotations

import pytest

from kws.wording import byte_size, counted, duration, two_digits


def test_things_are_counted_in_thousands_and_take_an_s() -> None:
    assert [counted(n, "clip") for n in (0, 1, 2, 1500)] == [
        "0 clips",
        "1 clip",
        "2 clips",
        "1,500 clips",
    ]


def test_times_are_in_seconds_minutes_or_hours() -> None:
    assert [duration(s) for s in (0.4, 59, 125, 3660)] == ["0 s", "59 s", "2:05 min", "1:01 h"]


def test_sizes_are_in_powers_of_a_thousand() -> None:
    assert [byte_size(n) for n in (999, 1500, 999_960, 2.34e6, 5e12)] == [
        "999 B",
        "1.5 kB",
        "1.0 MB",
        "2.3 MB",
        "5000.0 GB",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.614, "0.61"),
        (0.0000123, "0.000012"),
        (0.996, "1"),
        (3.56, "3.6"),
        (9.96, "10"),
        (359.7, "360"),
        (1328, "1,300"),
    ],
)
def test_two_digits_say_how_large_something_is_without_a_power_of_ten(
    value: float, text: str
) -> None:
    assert two_digits(value) == text
