"""The acceptance criteria on made-up figures, met and not met, and at their very limits."""

import pytest

from reference.programs.criteria import judge
from reference.programs.outcome import Outcome


def outcome(program, accuracy=None, lines=50, **fields):
    if accuracy is not None:
        fields |= {"accuracies": (accuracy,), "seconds": (1.0,)}
    return Outcome(program, lines, **fields)


def verdicts(*outcomes):
    return [finding.verdict for finding in judge(outcomes)]


def test_all_met():
    found = judge([outcome("keras_fit", 0.890, 40), outcome("lightning_trainer", 0.892, 44)])
    assert [finding.verdict for finding in found] == ["met", "met", "met"]
    assert "89.10%" in found[0].detail and "0.10 points" in found[0].detail
    assert "89.00%" in found[1].detail and "keras_fit" in found[1].detail
    assert found[2].detail == "44 lines against 40: 10% more."


def test_none_met():
    found = judge([outcome("keras_fit", 0.860, 40), outcome("lightning_trainer", 0.892, 60)])
    assert [finding.verdict for finding in found] == ["NOT met", "NOT met", "NOT met"]
    assert "1.60 points" in found[0].detail
    assert "86.00%" in found[1].detail
    assert found[2].detail == "60 lines against 40: 50% more."


@pytest.mark.parametrize(
    ("lowest", "highest", "verdict"),
    [(0.88, 0.89, "met"), (0.8799, 0.89, "NOT met"), (0.88, 0.8901, "NOT met")],
)
def test_accuracies_may_lie_half_a_point_from_their_mean(lowest, highest, verdict):
    middle = round((lowest + highest) / 2, 6)
    programs = [outcome("a", lowest), outcome("b", middle), outcome("c", highest)]
    assert verdicts(*programs)[0] == verdict


def test_the_distance_is_from_the_mean_and_not_between_neighbours():
    """0.8 points between any two, yet each is within 0.5 of the mean; and the other way round."""
    assert verdicts(outcome("a", 0.880), outcome("b", 0.888))[0] == "met"
    spread = [outcome(str(n), 0.880 + 0.004 * n) for n in range(4)]
    assert verdicts(*spread)[0] == "NOT met"


@pytest.mark.parametrize(
    ("accuracy", "verdict"),
    [(0.87, "met"), (0.8700000048, "met"), (0.8699999928, "met"), (0.8699, "NOT met")],
)
def test_the_least_accuracy_is_87_percent_whatever_float32_makes_of_it(accuracy, verdict):
    assert verdicts(outcome("a", accuracy), outcome("b", 0.87))[1] == verdict


@pytest.mark.parametrize(("lines", "verdict"), [(30, "met"), (50, "met"), (51, "NOT met")])
def test_lightning_may_be_a_quarter_longer_than_keras(lines, verdict):
    programs = [outcome("keras_fit", 0.9, 40), outcome("lightning_trainer", 0.9, lines)]
    assert verdicts(*programs)[2] == verdict


@pytest.mark.parametrize(("lines", "words"), [(30, "25% fewer"), (40, "0% more")])
def test_fewer_lines_are_called_fewer(lines, words):
    programs = [outcome("keras_fit", 0.9, 40), outcome("lightning_trainer", 0.9, lines)]
    assert judge(programs)[2].detail == f"{lines} lines against 40: {words}."


def test_too_few_programs_are_not_judged():
    assert verdicts(outcome("torch_loop", 0.9)) == ["not judged", "met", "not judged"]
    assert verdicts() == ["not judged"] * 3


def test_a_program_that_failed_or_is_missing_has_no_say_in_the_accuracies():
    failed = outcome("jax_flax", 0.1, error="ValueError: no")
    missing = outcome("torch_loop", missing=("torch",))
    good = [outcome("keras_fit", 0.89, 40), outcome("lightning_trainer", 0.89, 40)]
    assert verdicts(*good, failed, missing) == ["met", "met", "met"]


def test_lines_are_compared_even_where_a_program_did_not_run():
    missing = outcome("lightning_trainer", lines=60, missing=("lightning",))
    assert verdicts(outcome("keras_fit", 0.89, 40), missing)[2] == "NOT met"


def test_an_accuracy_is_the_mean_over_the_seeds():
    several = Outcome("a", 50, accuracies=(0.86, 0.89), seconds=(1.0, 3.0))
    assert several.accuracy == 0.875
    assert several.training_time == 2.0
    assert several.spread == pytest.approx(0.03 / 2**0.5)
    assert verdicts(several, outcome("b", 0.875))[:2] == ["met", "met"]
