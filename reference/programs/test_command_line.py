"""`python -m reference.programs`: its errors, each one line, its exit status and its choices."""

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.datasets import Resolved
from reference.programs import __main__ as command_line
from reference.programs import catalogue
from reference.programs.outcome import Outcome

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def outcomes(monkeypatch):
    """Replace the data by the digits and the training by a table of outcomes, by program."""
    table = {name: Outcome(name, 50, name, (0.9,), (1.0,)) for name in catalogue.PROGRAMS}
    digits = Resolved("digits", None, "digits of scikit-learn: for this test")
    monkeypatch.setattr(command_line, "resolve", lambda *args, **options: digits)
    monkeypatch.setattr(
        command_line.isolated_training, "train", lambda program, **options: table[program]
    )
    monkeypatch.setattr(command_line.catalogue, "missing", lambda program, backend: ())
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return table


def refused(capsys, *arguments):
    """The one line a refused command line prints."""
    with pytest.raises(SystemExit) as stop:
        command_line.main(arguments)
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    [line] = printed.err.splitlines()
    return line.removeprefix("python -m reference.programs: error: ")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("torchloop", "did you mean torch_loop?"),
        ("keras-fit", "did you mean keras_fit?"),
        ("xyz", "known: tensorflow_custom_loop, torch_loop, lightning_trainer, keras_fit"),
    ],
)
def test_an_unknown_program_is_refused_with_a_suggestion(capsys, typed, hint):
    line = refused(capsys, "--program", typed)
    assert f"unknown program {typed!r}; {hint}" in line


@pytest.mark.parametrize("option", ["--epochs", "--seeds"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_counts_are_whole_numbers_from_1(capsys, option, value):
    line = refused(capsys, f"{option}={value}")
    assert line == f"argument {option}: {value!r} is not a whole number from 1"


def test_unfit_data_is_refused(capsys, tmp_path):
    line = refused(capsys, "--dataset-dir", str(tmp_path / "nowhere"))
    assert line.startswith("--dataset-dir: ") and "nowhere" in line


def test_an_unknown_keras_backend_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    line = refused(capsys)
    assert line == "KERAS_BACKEND: unknown value 'theano'; known: tensorflow, torch, jax"


def test_a_missing_framework_asked_for_by_name_is_refused(capsys, monkeypatch, outcomes):
    monkeypatch.setattr(command_line.catalogue, "missing", lambda program, backend: ("optax",))
    assert refused(capsys, "--program", "jax_flax") == "jax_flax needs optax: not installed"


def test_a_missing_framework_is_named_and_the_others_run(capsys, monkeypatch, outcomes):
    absent = {"jax_flax": ("jax",)}
    monkeypatch.setattr(
        command_line.catalogue, "missing", lambda program, backend: absent.get(program, ())
    )
    assert command_line.main([]) == 0
    text = capsys.readouterr().out
    assert "not installed: jax" in text
    assert text.count("90.00%") == 4 + 2  # the rows of the others, their mean and their lowest


def test_unmet_criteria_are_findings_and_no_errors(capsys, outcomes):
    outcomes["torch_loop"] = Outcome("torch_loop", 50, "torch", (0.5,), (1.0,))
    assert command_line.main([]) == 0
    assert capsys.readouterr().out.count("NOT met") == 2


def test_a_failed_program_is_an_error_and_the_others_are_shown(capsys, outcomes):
    outcomes["torch_loop"] = Outcome("torch_loop", 50, error="ValueError: no")
    assert command_line.main([]) == 1
    text = capsys.readouterr().out
    assert "torch_loop failed: ValueError: no" in text
    assert "keras_fit" in text


def test_nothing_that_could_run_is_an_error(capsys, monkeypatch, outcomes):
    monkeypatch.setattr(command_line.catalogue, "missing", lambda program, backend: ("all",))
    assert command_line.main([]) == 1


def test_an_interruption_is_one_line(capsys, monkeypatch, outcomes):
    def interrupt(program, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line.isolated_training, "train", interrupt)
    with pytest.raises(SystemExit) as stop:
        command_line.main([])
    assert stop.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "python -m reference.programs: interrupted"


def test_only_the_programs_asked_for_run_in_the_order_of_the_catalogue(capsys, outcomes):
    assert command_line.main(["--program", "jax_flax", "torch_loop", "jax_flax"]) == 0
    rows = [line.split()[1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert rows == ["torch_loop", "jax_flax"]


def test_options_reach_the_training(monkeypatch, outcomes):
    seen = {}

    def train(program, **options):
        seen.update(options, program=program)
        return outcomes[program]

    monkeypatch.setattr(command_line.isolated_training, "train", train)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    command_line.main(["--program", "keras_fit", "--epochs", "3", "--seeds", "2", "--eager"])
    assert (seen["epochs"], seen["seeds"], seen["compiled"]) == (3, 2, False)
    assert seen["backend"] == "jax"


def test_the_data_used_is_said(capsys, outcomes):
    command_line.main([])
    assert capsys.readouterr().out.startswith("digits of scikit-learn: for this test\n")


@pytest.mark.parametrize(
    ("program", "needed"),
    [("keras_fit", ("keras", "jax")), ("lightning_trainer", ("lightning", "torch"))],
)
def test_missing_names_what_is_not_installed(program, needed):
    assert catalogue.missing(program, "jax", find=lambda package: None) == needed
    assert catalogue.missing(program, "jax", find=lambda package: object()) == ()


def test_keras_runs_on_tensorflow_unless_told_otherwise():
    assert catalogue.keras_backend({}) == "tensorflow"
    assert catalogue.keras_backend({"KERAS_BACKEND": ""}) == "tensorflow"
    assert catalogue.keras_backend({"KERAS_BACKEND": "torch"}) == "torch"


def test_it_imports_no_framework():
    """In a fresh interpreter, since this one may have imported them for other tests."""
    code = (
        "import sys, reference.programs.__main__\n"
        "print(sorted({'torch', 'tensorflow', 'keras', 'lightning', 'jax'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"
