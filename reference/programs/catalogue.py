"""The homework programs by name, and what each needs; importing this imports no framework."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

# Import names, the framework that gives the program its name first.
PROGRAMS = {
    "tensorflow_custom_loop": ("tensorflow",),
    "torch_loop": ("torch",),
    "lightning_trainer": ("lightning", "torch"),
    "keras_fit": ("keras",),
    "jax_flax": ("jax", "flax", "optax"),
}

KERAS_BACKENDS = ("tensorflow", "torch", "jax")


def source(program: str) -> Path:
    """The file of a program."""
    return Path(__file__).with_name(f"{program}.py")


def keras_backend(environ: Mapping[str, str]) -> str:
    """The backend that `keras_fit` runs on: `KERAS_BACKEND`, or TensorFlow where it is not set."""
    return environ.get("KERAS_BACKEND") or "tensorflow"


def packages(program: str, backend: str) -> tuple[str, ...]:
    """The import names a program needs; `backend` is the one of Keras and matters to it alone."""
    needed = PROGRAMS[program]
    return (*needed, backend) if program == "keras_fit" else needed


def missing(
    program: str, backend: str, find: Callable[[str], object] = importlib.util.find_spec
) -> tuple[str, ...]:
    """Those of a program's packages that are not installed. `find` returns None for such a one."""
    return tuple(package for package in packages(program, backend) if find(package) is None)
