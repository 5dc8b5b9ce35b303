"""The commands of the suite: `nox -s cpu`, `gpu`, `mps`, `compare`, `merge`, `report`, `faults`...

    python3 -m pip install nox
    python3 -m nox -s cpu

Words after `--` go to pytest: `nox -s cpu -- --framework torch --area autograd`.
"""

import argparse
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
RUN_OPTIONS = ("depth", "shard", "durations-from")  # which hold for each run of a session
TESTS_FAILED, NO_TESTS = 1, 5  # https://docs.pytest.org/en/stable/reference/exit-codes.html


@nox.session
def cpu(session: nox.Session) -> None:
    """Every spec, on every framework, precision and mode this CPU offers."""
    install(session, "cpu")
    run_specs(session, "cpu")


@nox.session
def gpu(session: nox.Session) -> None:
    """The same specs on an NVIDIA GPU, and the claims; stops at once where there is none."""
    install(session, "gpu")
    session.run("python", "-m", "fixtures.matrix", "require", "cuda")
    run_specs(session, "cuda")
    if not session.posargs:
        measure_claims(session, "cuda", [])


@nox.session
def mps(session: nox.Session) -> None:
    """The same specs on an Apple GPU; stops at once where there is none."""
    install(session, "cpu")
    session.run("python", "-m", "fixtures.matrix", "require", "mps")
    run_specs(session, "mps")


@nox.session
def speed(session: nox.Session) -> None:
    """Claims of speed, memory and size, measured on this CPU and judged; --ruler: what it can tell.

    Other words go to pytest: --strict-claims, --speed-budget SECONDS, --benchmark-autosave...
    """
    install(session, "cpu")
    if "--ruler" in session.posargs:
        words = [word for word in session.posargs if word != "--ruler"]
        session.run("python", "-m", "fixtures.speed", "ruler", *words)
    else:
        measure_claims(session, "cpu", session.posargs)


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
    session.run("python", "-m", "pytest", "conformance", "--depth", "smoke", "--no-record")
    session.run("python", "-m", "fixtures.matrix", "curriculum")


@nox.session
def compare(session: nox.Session) -> None:
    """OLD NEW: what flipped between two records; fails on a regression."""
    install(session, "records")
    session.run("python", "-m", "fixtures.records", "compare", *session.posargs)


@nox.session
def merge(session: nox.Session) -> None:
    """DIR... [--output DIR]: one record of several: shards, devices, Keras backends."""
    install(session, "records")
    parser = argparse.ArgumentParser(prog="nox -s merge --")
    parser.add_argument("parts", nargs="+", metavar="DIR")
    parser.add_argument("--output", metavar="DIR", default=str(new_record()))
    words = parser.parse_args(session.posargs)
    session.run("python", "-m", "fixtures.records", "merge", *words.parts, "--output", words.output)
    session.run("python", "-m", "fixtures.reports", "summary", words.output)


@nox.session
def report(session: nox.Session) -> None:
    """RECORD [RECORD...]: one HTML page of the last record, compared with those before it."""
    install(session, "records")
    session.run("python", "-m", "fixtures.reports", "html", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Plant every fault in turn: the specs that claim it must notice, controls must pass.

    Words: names of faults, --all, --resume DIR, --sensitivity.
    """
    install(session, "cpu")
    session.run("python", "-m", "fixtures.faults", "run", *session.posargs)


@nox.session
def versions(session: nox.Session) -> None:
    """--package NAME --releases LIST: behaviours x releases of one package, and what flipped.

    Each release gets an environment of its own; nothing else varies but what it asks for.
    """
    install(session, "releases")
    session.run("python", "-m", "fixtures.releases", "versions", *session.posargs)


@nox.session
def bisect(session: nox.Session) -> None:
    """BEHAVIOUR --package NAME [--good R] [--bad R]: the release that broke it, the one before."""
    install(session, "releases")
    session.run("python", "-m", "fixtures.releases", "bisect", *session.posargs)


@nox.session
def environments(session: nox.Session) -> None:
    """List the environments of releases; --prune [--keep N] removes them."""
    install(session, "releases")
    session.run("python", "-m", "fixtures.releases", "environments", *session.posargs)


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

    Each run leaves a record in a folder of parts; merged, they are the record of the session.
    Words of the caller beyond those of `session_options` make it one run, on their backend.
    """
    options, words = session_options(session.posargs)
    record = Path(options.resume) if options.resume else new_record()
    parts = record.with_name(f"{record.name}-parts")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    chosen = [word for name in RUN_OPTIONS for word in option(name, options)]
    if words or is_record(record):
        run_pytest(session, record, backend, ["--device", device, *chosen, *words])
    else:
        others = [other for other in KERAS_BACKENDS if other != backend]
        runs = {"all": (backend, [])}
        runs |= {f"keras-{other}": (other, ["--framework", "keras"]) for other in others}
        for name, (keras_backend, narrowed) in runs.items():
            arguments = ["--device", device, *chosen, *narrowed]
            run_pytest(session, parts / name, keras_backend, arguments)
        merged = (*(str(parts / name) for name in runs), "--output", str(record))
        session.run("python", "-m", "fixtures.records", "merge", *merged)
    session.run("python", "-m", "fixtures.reports", "summary", str(record))


def measure_claims(session: nox.Session, device: str, words: list[str]) -> None:
    """One process, so that nothing else of the run takes time; samples as pytest-benchmark's JSON.

    Its own table is left out, the run ends with that of the claims.
    """
    record = new_record()
    record = record.with_name(f"{record.name}-speed")
    record.parent.mkdir(exist_ok=True)
    session.run(
        *("python", "-m", "pytest", "conformance/speed", "-n", "0", "--speed"),
        *("--device", device, "--record", str(record), "--benchmark-enable", "--benchmark-quiet"),
        *(f"--benchmark-json={record}.benchmark.json", *words),
    )


def session_options(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options that hold for each of a session's runs, and the other words."""
    parser = argparse.ArgumentParser(prog="nox -s cpu --", add_help=False, allow_abbrev=False)
    for name in (*RUN_OPTIONS, "resume"):
        parser.add_argument(f"--{name}")
    return parser.parse_known_args(words)


def option(name: str, options: argparse.Namespace) -> list[str]:
    value = getattr(options, name.replace("-", "_"))
    return [f"--{name}", value] if value else []


def run_pytest(session: nox.Session, record: Path, backend: str, arguments: list[str]) -> None:
    """One run of the specs into `record`; what the record has already is not run again."""
    where = "--resume" if is_record(record) else "--record"
    session.run(
        *("python", "-m", "pytest", "conformance", "--no-matrix", where, str(record)),
        *(f"--junitxml={record}.xml", *arguments),
        env={"KERAS_BACKEND": backend},
        success_codes=[0, TESTS_FAILED, NO_TESTS],
    )


def is_record(folder: Path) -> bool:
    return (folder / "header.json").is_file()


def new_record() -> Path:
    """A folder's name that no other run has: UTC time and host."""
    time = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "unnamed"
    return Path("results") / f"{time}-{host}"
