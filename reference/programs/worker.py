"""Trains one program in an interpreter of its own: `python -m reference.programs.worker`.

It takes one JSON object as its argument and writes JSON lines to standard output::

    {"event": "started", "framework": "torch 2.13.0"}
    {"event": "epoch", "message": "epoch 1/10: last loss 0.3210"}
    {"event": "finished", "seed": 0, "accuracy": 0.8932, "seconds": 17.5}
    {"event": "failed", "error": "ValueError: ..."}
"""

import importlib
import json
import os
import sys
import time
from types import SimpleNamespace

import numpy as np


def main() -> int:
    # Frameworks print to standard output too: give them standard error, and keep it for events.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def report(event: str, **fields: object) -> None:
        print(json.dumps({"event": event, **fields}), file=events, flush=True)

    try:
        _work(json.loads(sys.argv[1]), report)
    except Exception as error:
        words = " ".join(str(error).split())  # one line, however the library wrote it
        report("failed", error=f"{type(error).__name__}: {words}")
        return 1
    return 0


def _work(task: dict, report) -> None:
    with np.load(task["data"], allow_pickle=False) as arrays:
        data = SimpleNamespace(**arrays)
    program = importlib.import_module(f"reference.programs.{task['program']}")
    report("started", framework=_framework(task["packages"]))
    for seed in range(task["seeds"]):
        start = time.perf_counter()
        accuracy = program.train(
            data,
            epochs=task["epochs"],
            seed=seed,
            compiled=task["compiled"],
            progress=lambda message: report("epoch", message=message),
        )
        seconds = time.perf_counter() - start
        report("finished", seed=seed, accuracy=float(accuracy), seconds=seconds)


def _framework(packages: list[str]) -> str:
    """Name and version of the first package, and for Keras the name of its backend."""
    name = packages[0]
    version = importlib.import_module(name).__version__
    return f"{name} {version}" + (f" on {packages[1]}" if name == "keras" else "")


if __name__ == "__main__":
    sys.exit(main())
