"""Every expected pair was counted by hand."""

import pytest

from reference.patience import train_with_patience

FALLS_THEN_STAYS = [3, 2, 1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("patience", "expected"), [(0, (4, 3)), (1, (4, 3)), (2, (5, 3)), (5, (8, 3)), (6, (8, 3))]
)
def test_patience_counts_epochs_after_the_best(patience, expected):
    assert train_with_patience(FALLS_THEN_STAYS, patience) == expected


def test_an_improvement_restarts_the_count_and_an_equal_score_is_none():
    assert train_with_patience([5, 6, 4, 4, 5, 3], patience=2) == (5, 3)
    assert train_with_patience([5, 6, 4, 4, 5, 3], patience=3) == (6, 6)


def test_mode_max_is_min_of_the_negated_scores():
    assert train_with_patience([-s for s in FALLS_THEN_STAYS], 2, mode="max") == (5, 3)
    assert train_with_patience([1, 2, 3, 4], 2, mode="min") == (3, 1)


def test_min_delta_compares_with_the_best_and_not_with_the_epoch_before():
    falling = [4.0, 3.875, 3.75, 3.625, 3.5]
    assert train_with_patience(falling, 2, min_delta=0.3) == (3, 1)
    assert train_with_patience(falling, 3, min_delta=0.3) == (5, 4)
    assert train_with_patience(falling, 3, min_delta=0.25) == (5, 4)
    assert train_with_patience(falling, 4, min_delta=0.375) == (5, 5)
    assert train_with_patience(falling, 3, min_delta=0.375) == (4, 1)


def test_without_reaching_the_baseline_it_ends_after_patience_epochs():
    assert train_with_patience([5, 4, 4, 4], 3, baseline=2) == (3, 2)
    assert train_with_patience([5, 1, 4, 4, 4, 4], 3, baseline=2) == (5, 2)


def test_the_first_epochs_are_not_looked_at():
    assert train_with_patience([1, 5, 5, 5, 4], 1, start=2) == (4, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": []},
        {"mode": "auto"},
        {"patience": -1},
        {"min_delta": -0.1},
    ],
)
def test_what_has_no_meaning_is_refused(wrong):
    with pytest.raises(ValueError, match="expected one or more"):
        train_with_patience(**{"scores": [1], "patience": 1, **wrong})
