"""Warm-up, cosine decay, restarts and cycles at steps whose cosines are known."""

import math

import pytest

from reference.schedules import between_corners, cosine_with_restarts, warmup_cosine

SCHEDULE = {"initial": 1.0, "peak": 9.0, "end": 1.0, "warmup_steps": 4, "decay_steps": 6}


def test_the_warm_up_is_a_line():
    assert [warmup_cosine(step, **SCHEDULE) for step in range(5)] == [1, 3, 5, 7, 9]


@pytest.mark.parametrize(
    "step, cosine",
    [(4, 1), (5, math.sqrt(3) / 2), (6, 0.5), (7, 0), (8, -0.5), (9, -math.sqrt(3) / 2), (10, -1)],
)
def test_the_decay_is_half_a_cosine(step, cosine):
    assert warmup_cosine(step, **SCHEDULE) == pytest.approx(5 + 4 * cosine, abs=1e-14)


def test_after_the_end_it_stays_or_swings_back():
    assert warmup_cosine(11, **SCHEDULE) == warmup_cosine(1000, **SCHEDULE) == 1
    swinging = [warmup_cosine(step, periodic=True, **SCHEDULE) for step in (10, 13, 16, 22)]
    assert swinging == pytest.approx([1, 5, 9, 1], abs=1e-14)


def test_without_warm_up_it_starts_at_the_peak():
    assert warmup_cosine(0, **{**SCHEDULE, "warmup_steps": 0}) == 9


def test_periods_grow_and_begin_at_the_peak():
    rates = [cosine_with_restarts(step, peak=3, end=1, first=2, factor=2) for step in range(15)]
    assert [step for step, rate in enumerate(rates) if rate == 3] == [0, 2, 6, 14]
    assert [rates[step] for step in (1, 4, 10)] == pytest.approx([2, 2, 2], abs=1e-15)
    assert rates[3] == pytest.approx(2 + math.sqrt(0.5), abs=1e-15)


def test_peaks_fall_with_the_restarts():
    rates = [
        cosine_with_restarts(step, peak=8, end=0, first=2, factor=1, peak_factor=0.5)
        for step in range(6)
    ]
    assert rates == pytest.approx([8, 4, 4, 2, 2, 1], abs=1e-15)


CORNERS = ((0, 1.0), (2, 5.0), (6, 1.0))


def test_between_corners_are_lines():
    rates = [between_corners(step, CORNERS, cosine=False) for step in range(7)]
    assert rates == [1, 3, 5, 4, 3, 2, 1]


def test_between_corners_are_cosines():
    rates = [between_corners(step, CORNERS, cosine=True) for step in range(7)]
    half = math.sqrt(0.5)
    assert rates == pytest.approx([1, 3, 5, 3 + 2 * half, 3, 3 - 2 * half, 1], abs=1e-14)


def test_beyond_the_last_corner_is_no_rate():
    with pytest.raises(ValueError, match="step 7 is on no path from 0 to 6"):
        between_corners(7, CORNERS, cosine=True)
