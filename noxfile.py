"""The commands of the suite: `nox -s cpu`, `gpu`, `mps`, `tests`, `lint`.

    python3 -m pip install nox
    python3 -m nox -s cpu

Words after `--` go to pytest: `nox -s cpu -- --framework torch --area autograd`.
"""

import datetime
import os
import re
import socket
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["cpu"]

PROJECT = nox.project.load_toml("pyproject.toml")
KERAS_BACKENDS = ("tensorflow", "torch", "jax")
TESTS_FAILED, NO_TESTS = 1, 5  # https://docs.pytest.org/en/stable/reference/exit-codes.html


@nox.session
def cpu(session: nox.Session) -> None:
    """Every spec, on every framework, precision and mode this CPU offers."""
    install(session, "cpu")
    run_specs(session, "cpu")


@nox.session
def gpu(session: nox.Session) -> None:
    """The same specs on an NVIDIA GPU; stops at once where there is none."""
    install(session, "gpu")
    session.run("python", "-m", "fixtures.matrix", "require", "cuda")
    run_specs(session, "cuda")


@nox.session
def mps(session: nox.Session) -> None:
    """The same specs on an Apple GPU; stops at once where there is none."""
    install(session, "cpu")
    session.run("python", "-m", "fixtures.matrix", "require", "mps")
    run_specs(session, "mps")


@nox.session
def tests(session: nox.Session) -> None:
    """The machinery under fixtures/ and reference/, in random order; then a smoke pass of specs.

    Ends with how much of the course the specs cover.
    """
    install(session, "cpu")
    if session.posargs:
        session.run("python", "-m", "pytest", *session.posargs)
        return
    session.run("python", "-m", "pytest", "fixtures", "reference", "--random-order")
    session.run("python", "-m", "pytest", "conformance", "--depth", "smoke")
    session.run("python", "-m", "fixtures.matrix", "curriculum")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff check and ruff format, without changing anything."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


def install(session: nox.Session, group: str) -> None:
    """Install a dependency group under the constraints; nothing with --no-venv."""
    if session.virtualenv.is_sandboxed:
        requirements = nox.project.dependency_groups(PROJECT, group)
        session.install("--quiet", "-c", "constraints.txt", *requirements)


def run_specs(session: nox.Session, device: str) -> None:
    """Run every spec on one device: all frameworks, then Keras on its two other backends.

    Each run leaves a record; together they end in one matrix. Words of the caller make it one run,
    on the backend of the caller.
    """
    results = Path("results") / f"{now()}-{host()}"
    runs = {"all": (os.environ.get("KERAS_BACKEND", "tensorflow"), session.posargs)}
    if not session.posargs:
        others = [backend for backend in KERAS_BACKENDS if backend != runs["all"][0]]
        runs |= {f"keras-{backend}": (backend, ["-k", "keras_"]) for backend in others}
    for name, (backend, words) in runs.items():
        session.run(
            *("python", "-m", "pytest", "conformance", "--device", device, "--no-matrix"),
            *("--record", str(results / name), f"--junitxml={results / name}.xml", *words),
            env={"KERAS_BACKEND": backend},
            success_codes=[0, TESTS_FAILED, NO_TESTS],
        )
    session.run("python", "-m", "fixtures.reports", *(str(results / name) for name in runs))


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")


def host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "unnamed"
