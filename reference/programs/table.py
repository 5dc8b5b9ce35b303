"""The table the homework asks for, and the criteria below it."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reference.programs.criteria import Finding
from reference.programs.outcome import Outcome

_STYLES = {"met": "green", "NOT met": "bold red", "not judged": "yellow"}


def show(
    console: Console, outcomes: Sequence[Outcome], findings: Sequence[Finding], title: str
) -> None:
    """Print the table, what failed, and each criterion; at most 100 columns wide."""
    console.print(_table(outcomes, title))
    console.print(
        "Lines of code: without blank lines, comments and docstrings. Training time: wall time of\n"
        "train(), which builds, compiles, trains and tests; imports and data loading come before.",
        style="dim",
    )
    for outcome in outcomes:
        if outcome.error:
            console.print(Text(f"{outcome.program} failed: {outcome.error}", style="bold red"))
    console.print()
    for finding in findings:
        console.print(
            Text.assemble(
                (f"{finding.verdict:<12}", _STYLES[finding.verdict]),
                finding.criterion,
                f"\n{'':12}{finding.detail}",
            )
        )


def _table(outcomes: Sequence[Outcome], title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("Program", no_wrap=True)
    table.add_column("Framework")
    table.add_column("Lines of\ncode", justify="right")
    table.add_column("Training\ntime", justify="right")
    table.add_column("Test\naccuracy", justify="right")
    for outcome in outcomes:
        table.add_row(
            outcome.program,
            _framework(outcome),
            str(outcome.lines),
            f"{outcome.training_time:.1f} s" if outcome.ran else "-",
            _accuracy(outcome),
        )
    return table


def _framework(outcome: Outcome) -> str:
    if outcome.missing:
        return f"not installed: {', '.join(outcome.missing)}"
    return outcome.framework or "-"


def _accuracy(outcome: Outcome) -> str:
    if outcome.error:
        return "failed"
    if not outcome.ran:
        return "-"
    if outcome.spread is None:
        return f"{outcome.accuracy:.2%}"
    return f"{outcome.accuracy:.2%} ± {100 * outcome.spread:.2f}"
