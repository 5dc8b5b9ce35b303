"""Runs a program in a fresh interpreter, so that no framework meets another one's state."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from reference.programs import catalogue, lines_of_code
from reference.programs.outcome import Outcome

_ROOT = Path(__file__).resolve().parents[2]


def train(
    program: str,
    *,
    data: Path,
    epochs: int,
    seeds: int,
    compiled: bool,
    backend: str,
    on_epoch: Callable[[str], object],
    command: Sequence[str] = (sys.executable, "-m", "reference.programs.worker"),
) -> Outcome:
    """Train `program` once for each of the seeds 0 to `seeds` - 1, in one new interpreter.

    Args:
        data: An .npz file with train_images, train_labels, test_images and test_labels.
        backend: The backend of Keras.
        on_epoch: Called after each epoch with the program's own line about it.
        command: The interpreter and module to start; the task is appended as JSON.

    Returns:
        The outcome. A program that fails, or takes its interpreter down, is an outcome with an
        `error`; it raises nothing.
    """
    packages = catalogue.packages(program, backend)
    task = {
        "program": program,
        "packages": packages,
        "data": str(data.resolve()),
        "epochs": epochs,
        "seeds": seeds,
        "compiled": compiled,
    }
    found: dict[str, list] = {"started": [], "finished": [], "failed": []}
    # The new interpreter works in a folder that vanishes, with whatever a library writes there.
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "stderr", "w+b") as stderr:
        process = subprocess.Popen(
            [*command, json.dumps(task)],
            cwd=folder,
            env=_environment(backend),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
        )
        try:
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "epoch":
                    on_epoch(event["message"])
                else:
                    found[event["event"]].append(event)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        stderr.seek(0)
        last_words = stderr.read().decode(errors="replace").strip().splitlines()[-1:]
    error = "".join(event["error"] for event in found["failed"])
    if code and not error:
        error = ": ".join([_ending(code), *last_words])
    return Outcome(
        program=program,
        lines=lines_of_code.count(catalogue.source(program).read_text(encoding="utf-8")),
        framework="".join(event["framework"] for event in found["started"]),
        accuracies=tuple(event["accuracy"] for event in found["finished"]),
        seconds=tuple(event["seconds"] for event in found["finished"]),
        error=error,
    )


def _environment(backend: str) -> dict[str, str]:
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(paths)}


def _ending(code: int) -> str:
    if code < 0:
        return f"the interpreter was ended by {signal.Signals(-code).name}"
    return f"the interpreter ended with status {code}"
