"""Run the homework programs and print their table: `python -m reference.programs`.

Exit status: 0 when every program ran, whether the criteria are met or not, since they are
findings; 1 when a program failed or none could run; 2 for wrong usage or unfit data; 130 when
interrupted. A framework that is not installed is named in the table, and is an error only where
its program was asked for with `--program`.
"""

import argparse
import difflib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fixtures.datasets import DatasetError, ImageData, load, resolve
from reference.programs import catalogue, criteria, isolated_training, lines_of_code, table
from reference.programs.outcome import Outcome

WIDTH = 100


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line; `--help` has the usage."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    backend = catalogue.keras_backend(os.environ)
    if backend not in catalogue.KERAS_BACKENDS:
        known = ", ".join(catalogue.KERAS_BACKENDS)
        parser.error(f"KERAS_BACKEND: unknown value {backend!r}; known: {known}")
    asked = options.program or []
    for name in asked:
        if absent := catalogue.missing(name, backend):
            parser.error(f"{name} needs {', '.join(absent)}: not installed")
    programs = [name for name in catalogue.PROGRAMS if not asked or name in asked]
    try:
        resolved = resolve(
            options.dataset_dir, os.environ, download=True, notify=_console(sys.stderr).print
        )
        data = load(resolved)
    except DatasetError as error:
        parser.error(str(error))
    try:
        outcomes = _run(programs, data, options, backend)
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted\n")
    console = _console(sys.stdout)
    console.print(resolved.reason, markup=False, highlight=False, soft_wrap=True)
    mode = "eager" if options.eager else "compiled"
    title = f"{options.epochs} epochs, {mode}, {options.seeds} seed(s): means ± standard deviation"
    if options.seeds == 1:
        title = f"{options.epochs} epochs, {mode}, seed 0"
    table.show(console, outcomes, criteria.judge(outcomes), title)
    failed = any(outcome.error for outcome in outcomes)
    return 1 if failed or not any(outcome.ran for outcome in outcomes) else 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m reference.programs",
        description="Train the course homework in five frameworks and compare the programs.",
    )
    parser.add_argument(
        "--epochs", type=_positive, default=10, metavar="N", help="epochs of each run (default 10)"
    )
    parser.add_argument(
        "--program",
        type=_program,
        nargs="+",
        metavar="NAME",
        help=f"run these only, of: {', '.join(catalogue.PROGRAMS)}",
    )
    parser.add_argument(
        "--seeds",
        type=_positive,
        default=1,
        metavar="N",
        help="run each program with the seeds 0 to N - 1 and print the means (default 1)",
    )
    parser.add_argument(
        "--dataset-dir", type=Path, metavar="DIR", help="folder with the files of Fashion-MNIST"
    )
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _program(text: str) -> str:
    if text not in catalogue.PROGRAMS:
        near = difflib.get_close_matches(text, catalogue.PROGRAMS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(catalogue.PROGRAMS)}"
        raise argparse.ArgumentTypeError(f"unknown program {text!r}; {hint}")
    return text


def _console(file) -> Console:
    """A console as wide as its terminal, but at most 100 columns, and 100 where it is none."""
    console = Console(file=file)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


def _run(
    programs: Sequence[str], data: ImageData, options: argparse.Namespace, backend: str
) -> list[Outcome]:
    """Run the programs one after the other, with a bar for each; say what is not installed."""
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
    )
    outcomes = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=_console(sys.stderr)) as bars,
    ):
        path = Path(folder) / "data.npz"
        np.savez(
            path,
            train_images=data.train_images,
            train_labels=data.train_labels,
            test_images=data.test_images,
            test_labels=data.test_labels,
        )
        total = options.epochs * options.seeds
        tasks = {name: bars.add_task(name, total=total, start=False) for name in programs}
        for name, task in tasks.items():
            absent = catalogue.missing(name, backend)
            if absent:
                lines = lines_of_code.count(catalogue.source(name).read_text(encoding="utf-8"))
                outcomes.append(Outcome(name, lines, missing=absent))
                continue
            bars.start_task(task)
            outcomes.append(
                isolated_training.train(
                    name,
                    data=path,
                    epochs=options.epochs,
                    seeds=options.seeds,
                    compiled=not options.eager,
                    backend=backend,
                    on_epoch=lambda _, task=task: bars.advance(task),
                )
            )
            bars.stop_task(task)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
