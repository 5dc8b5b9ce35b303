"""The printed table: its cells, its verdicts, and its width with and without colour."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from reference.programs import catalogue, table
from reference.programs.criteria import judge
from reference.programs.outcome import Outcome


def outcome(program, *accuracies, lines=50, seconds=123.45, framework="keras 3.15.1 on tensorflow"):
    return Outcome(program, lines, framework, accuracies, tuple(seconds for _ in accuracies))


def printed(outcomes, colour=False):
    file = io.StringIO()
    color_system = "truecolor" if colour else None
    console = Console(file=file, width=100, force_terminal=colour, color_system=color_system)
    table.show(console, outcomes, judge(outcomes), "10 epochs, compiled, seed 0")
    return file.getvalue()


def row(text, program):
    [line] = [line for line in text.splitlines() if line.startswith(f"│ {program} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_row_has_lines_time_and_accuracy():
    text = printed([outcome("torch_loop", 0.8932, framework="torch 2.13.0")])
    assert row(text, "torch_loop") == ["torch_loop", "torch 2.13.0", "50", "123.5 s", "89.32%"]


def test_several_seeds_show_mean_and_spread():
    text = printed([outcome("torch_loop", 0.89, 0.90)])
    assert row(text, "torch_loop")[4] == "89.50% ± 0.71"


def test_what_is_not_installed_is_named_and_the_others_are_shown():
    missing = Outcome("jax_flax", 55, missing=("flax", "optax"))
    text = printed([missing, outcome("torch_loop", 0.89)])
    assert row(text, "jax_flax") == ["jax_flax", "not installed: flax, optax", "55", "-", "-"]
    assert row(text, "torch_loop")[4] == "89.00%"


def test_a_failure_says_why():
    failed = Outcome("jax_flax", 55, "jax 0.10.2", (0.89,), (1.0,), error="ValueError: [no] way")
    text = printed([failed])
    assert row(text, "jax_flax") == ["jax_flax", "jax 0.10.2", "55", "-", "failed"]
    assert "jax_flax failed: ValueError: [no] way" in text


def test_each_criterion_has_its_verdict():
    text = printed([outcome("keras_fit", 0.86, lines=40), outcome("torch_loop", 0.861)])
    assert "met         Every accuracy lies within 0.5 percentage points" in text
    assert "NOT met     Every accuracy is at least 87%." in text
    assert "not judged  Lightning is about as short as Keras" in text


@pytest.mark.parametrize("colour", [False, True])
def test_it_fits_100_columns(colour):
    wide = [outcome(program, 0.8, 1.0, lines=999) for program in catalogue.PROGRAMS]
    missing = Outcome("jax_flax", 55, missing=("jax", "flax", "optax"))
    text = printed([*wide, missing], colour)
    assert ("\x1b[" in text) == colour
    plain = Text.from_ansi(text).plain
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 100
    for name in catalogue.PROGRAMS:
        assert f"│ {name} " in plain
    assert "keras 3.15.1 on tensorflow" in plain and "90.00% ± 14.14" in plain
