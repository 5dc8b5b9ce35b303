"""The acceptance criteria of the homework, judged by the outcomes of its programs."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from reference.programs.outcome import Outcome

ACCURACY_DISTANCE = 0.005  # from the mean over the programs: 0.5 percentage points
LEAST_ACCURACY = 0.87
MOST_LINES = 1.25  # Lightning's lines of code over Keras's


@dataclass(frozen=True)
class Finding:
    """One criterion, what it demands, and what was found.

    Attributes:
        criterion: The demand in words, with its figure.
        met: Whether it is met; None where too few programs ran to say.
        detail: The figures that decide it.
    """

    criterion: str
    met: bool | None
    detail: str

    @property
    def verdict(self) -> str:
        """`met`, `NOT met` or `not judged`."""
        return {True: "met", False: "NOT met", None: "not judged"}[self.met]


def judge(outcomes: Sequence[Outcome]) -> list[Finding]:
    """Judge each criterion; an accuracy is the mean over the seeds of one program."""
    ran = [outcome for outcome in outcomes if outcome.ran]
    return [_agreement(ran), _least_accuracy(ran), _brevity(outcomes)]


def _agreement(ran: Sequence[Outcome]) -> Finding:
    criterion = "Every accuracy lies within 0.5 percentage points of the mean of all."
    if len(ran) < 2:
        return Finding(criterion, None, "It takes two programs that ran.")
    mean = statistics.fmean(outcome.accuracy for outcome in ran)
    farthest = max(ran, key=lambda outcome: abs(outcome.accuracy - mean))
    # Rounded, so that a distance of exactly 0.5 points is not lost to binary fractions.
    distance = round(abs(farthest.accuracy - mean), 6)
    return Finding(
        criterion,
        distance <= ACCURACY_DISTANCE,
        f"The mean is {mean:.2%}; {farthest.program} is the farthest, "
        f"{100 * distance:.2f} points away.",
    )


def _least_accuracy(ran: Sequence[Outcome]) -> Finding:
    criterion = f"Every accuracy is at least {LEAST_ACCURACY:.0%}."
    if not ran:
        return Finding(criterion, None, "No program ran.")
    lowest = min(ran, key=lambda outcome: outcome.accuracy)
    return Finding(
        criterion,
        lowest.accuracy >= LEAST_ACCURACY,
        f"The lowest is {lowest.accuracy:.2%}, of {lowest.program}.",
    )


def _brevity(outcomes: Sequence[Outcome]) -> Finding:
    criterion = "Lightning is about as short as Keras: at most 25 % more lines of code."
    lines = {outcome.program: outcome.lines for outcome in outcomes}
    if not {"lightning_trainer", "keras_fit"} <= lines.keys():
        return Finding(criterion, None, "It takes lightning_trainer and keras_fit.")
    lightning, keras = lines["lightning_trainer"], lines["keras_fit"]
    more = lightning / keras - 1
    return Finding(
        criterion,
        lightning <= MOST_LINES * keras,
        f"{lightning} lines against {keras}: {abs(more):.0%} {'fewer' if more < 0 else 'more'}.",
    )
