"""The worker that trains a program in its own interpreter: the real one, through its parent."""

import numpy as np
import pytest

from fixtures.datasets import Resolved, load
from reference.programs import catalogue, isolated_training


@pytest.fixture
def run(tmp_path):
    def run(program="torch_loop"):
        messages = []
        outcome = isolated_training.train(
            program,
            data=tmp_path / "digits.npz",
            epochs=1,
            seeds=2,
            compiled=False,
            backend="torch",
            on_epoch=messages.append,
        )
        return outcome, messages

    return run


@pytest.mark.timeout(300)  # five seconds on a quiet machine, most of it the import of torch
def test_a_program_is_trained_once_for_each_seed(run, tmp_path):
    if absent := catalogue.missing("torch_loop", "torch"):
        pytest.skip(f"not installed: {', '.join(absent)}")
    data = load(Resolved("digits", None, ""))
    names = ("train_images", "train_labels", "test_images", "test_labels")
    np.savez(tmp_path / "digits.npz", **{name: getattr(data, name) for name in names})
    outcome, messages = run()
    assert outcome.error == ""
    assert outcome.framework.startswith("torch ")
    assert [message.split(":")[0] for message in messages] == ["epoch 1/1", "epoch 1/1"]
    first, second = outcome.accuracies
    assert first != second
    assert all(seconds > 0 for seconds in outcome.seconds)


def test_what_goes_wrong_is_told_in_one_line(run):
    outcome, messages = run()
    assert not outcome.ran
    assert outcome.error.startswith("FileNotFoundError: ") and "digits.npz" in outcome.error
    assert "\n" not in outcome.error
    assert messages == []
