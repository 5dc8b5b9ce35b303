"""Warm-up and cosine decay at steps whose cosines are known."""

import math

import pytest

from reference.schedules import warmup_cosine

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
