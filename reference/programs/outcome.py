"""What became of one program."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One program after its runs, one per seed.

    Attributes:
        program: Its name, as in the catalogue.
        lines: Its lines of code.
        framework: The framework's name and version; for Keras also the backend.
        accuracies: Test accuracies in [0, 1], one per seed; empty when it did not run.
        seconds: Wall times of `train()`, one per seed.
        missing: The packages it needs that are not installed.
        error: Why it failed, in one line; empty when it did not.
    """

    program: str
    lines: int
    framework: str = ""
    accuracies: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    missing: tuple[str, ...] = ()
    error: str = ""

    @property
    def ran(self) -> bool:
        """Whether every one of its runs ended with an accuracy."""
        return bool(self.accuracies) and not self.error

    @property
    def accuracy(self) -> float:
        """Mean test accuracy over the seeds, in [0, 1]."""
        # Six decimals: some frameworks divide in float32, and 0.87 must not become 0.86999999.
        return round(statistics.fmean(self.accuracies), 6)

    @property
    def training_time(self) -> float:
        """Mean wall time of `train()` over the seeds, in seconds."""
        return statistics.fmean(self.seconds)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation of the accuracy over the seeds; None for a single seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None
