"""Training in another interpreter: what comes back when all goes well, and when it does not."""

import sys
import textwrap

import pytest

from reference.programs import isolated_training


@pytest.fixture
def run(tmp_path):
    """Run a stand-in for the worker: a script that gets the task as JSON in `sys.argv[1]`."""

    def run(script, on_epoch=lambda message: None, **task):
        path = tmp_path / "worker.py"
        path.write_text("import json, os, sys\n" + textwrap.dedent(script), encoding="utf-8")
        task = {"program": "torch_loop", "epochs": 2, "seeds": 1, "compiled": True} | task
        return isolated_training.train(
            **task,
            data=tmp_path / "data.npz",
            backend="jax",
            on_epoch=on_epoch,
            command=(sys.executable, str(path)),
        )

    return run


def test_epochs_are_passed_on_and_results_collected(run):
    messages = []
    outcome = run(
        """
        print('{"event": "started", "framework": "torch 9"}')
        print('{"event": "epoch", "message": "epoch 1/1"}')
        print('{"event": "finished", "seed": 0, "accuracy": 0.5, "seconds": 2.0}')
        print('{"event": "finished", "seed": 1, "accuracy": 0.7, "seconds": 1.0}')
        """,
        on_epoch=messages.append,
    )
    assert messages == ["epoch 1/1"]
    assert outcome.ran
    assert outcome.framework == "torch 9"
    assert outcome.accuracies == (0.5, 0.7)
    assert outcome.seconds == (2.0, 1.0)


def test_the_task_and_the_backend_reach_the_interpreter(run):
    outcome = run(
        """
        task = json.loads(sys.argv[1])
        words = [task["epochs"], task["seeds"], task["compiled"], task["packages"]]
        words += [os.path.basename(task["data"]), os.environ["KERAS_BACKEND"]]
        print(json.dumps({"event": "failed", "error": str(words)}))
        """,
        program="keras_fit",
        compiled=False,
    )
    assert outcome.error == "[2, 1, False, ['keras', 'jax'], 'data.npz', 'jax']"


def test_a_failure_is_an_outcome(run):
    outcome = run('print(json.dumps({"event": "failed", "error": "ValueError: no"})); sys.exit(1)')
    assert not outcome.ran
    assert outcome.error == "ValueError: no"


def test_an_interpreter_that_ends_early_is_a_failure_with_its_last_words(run):
    outcome = run('print("first\\nout of memory", file=sys.stderr); sys.exit(3)')
    assert outcome.error == "the interpreter ended with status 3: out of memory"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_an_interpreter_that_is_killed_is_a_failure(run):
    outcome = run("import signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert outcome.error == "the interpreter was ended by SIGKILL"


def test_it_works_in_a_folder_that_vanishes(run, tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    outcome = run(
        """
        open("left-behind", "w").close()
        print(json.dumps({"event": "failed", "error": os.getcwd()}))
        """
    )
    assert outcome.error and outcome.error != str(work)
    assert list(work.iterdir()) == []


@pytest.mark.timeout(60)
def test_an_interrupted_parent_ends_its_interpreter(run):
    def interrupt(message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            """
            import time
            print(json.dumps({"event": "epoch", "message": "epoch 1/1"}), flush=True)
            time.sleep(1000)
            """,
            on_epoch=interrupt,
        )
