"""Blocks without gradients, one within another: each puts back what it found.

A function may open torch.no_grad() without knowing whether its caller has one open already. So the
end of a block does not switch gradients on: it restores the mode from before, and does so as well
when an exception leaves the block. Otherwise one failed validation batch would end all learning,
or a helper's block would have the rest of its caller's evaluation recorded.

    outer block        inner block        in the inner    after it    after both
    enable_grad        enable_grad        recorded        recorded    recorded
                       no_grad            -               recorded    recorded
                       inference_mode     -               recorded    recorded
    no_grad            enable_grad        recorded        -           recorded
                       no_grad            -               -           recorded
                       inference_mode     -               -           recorded
    inference_mode     enable_grad        -               -           recorded
                       no_grad            -               -           recorded
                       inference_mode     -               -           recorded

inference_mode is the stronger one: no enable_grad within it records anything. A tape of TensorFlow
has a block of its own, tape.stop_recording(), and no other tape stops with it.

Sources: class 122, definition of no_grad and common mistake 4;
https://docs.pytorch.org/docs/stable/generated/torch.no_grad.html,
https://docs.pytorch.org/docs/stable/generated/torch.enable_grad.html,
https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad_mode.inference_mode.html,
https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disable-grad-doc,
https://www.tensorflow.org/api_docs/python/tf/GradientTape#stop_recording
"""

from contextlib import suppress

from fixtures.matrix import behaviour

# (outer, inner) -> is x² recorded in the inner block, after it, after both
RECORDED = {
    ("enable_grad", "enable_grad"): (True, True, True),
    ("enable_grad", "no_grad"): (False, True, True),
    ("enable_grad", "inference_mode"): (False, True, True),
    ("no_grad", "enable_grad"): (True, False, True),
    ("no_grad", "no_grad"): (False, False, True),
    ("no_grad", "inference_mode"): (False, False, True),
    ("inference_mode", "enable_grad"): (False, False, True),
    ("inference_mode", "no_grad"): (False, False, True),
    ("inference_mode", "inference_mode"): (False, False, True),
}


class Interruption(Exception):
    """What leaves a block before its end."""


def left_in_torch(cell, outer, inner, by_exception):
    """Whether x² is recorded in the inner block, after it, and after both."""
    import torch

    x = torch.tensor([3.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    seen = []

    def look():
        seen.append((x * x).requires_grad)

    with getattr(torch, outer)():
        try:
            with getattr(torch, inner)():
                look()
                if by_exception:
                    raise Interruption
        except Interruption:
            pass
        look()
    look()
    return tuple(seen)


def decorated_in_torch(cell, outer, inner, by_exception):
    """The same with the inner block as the decorator of a function."""
    import torch

    x = torch.tensor([3.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    seen = []

    def look():
        seen.append((x * x).requires_grad)

    @getattr(torch, inner)()
    def evaluate():
        look()
        if by_exception:
            raise Interruption

    with getattr(torch, outer)():
        with suppress(Interruption):
            evaluate()
        look()
    look()
    return tuple(seen)


@behaviour(
    "autograd.nested-grad-modes",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.no-grad-ends-with-gradients-on torch.enable-grad-survives-an-exception "
    "torch.inference-mode-ends-every-mode",
)
def test_nested_grad_modes(left, decorated, cell, expect):
    """The end of a block restores the mode from before it, as a block and as a decorator.

    So it does when an exception leaves the block.
    """
    for (outer, inner), recorded in RECORDED.items():
        for end, by_exception in (("its end", False), ("an exception", True)):
            for form, program in (("a block", left), ("a decorator", decorated)):
                expect.exactly(
                    observed=program(cell, outer, inner, by_exception),
                    expected=recorded,
                    what=f"x² recorded (in, after, outside), {inner} as {form} in {outer}, "
                    f"left by {end}",
                )


# ----------------------------------------------------------------------------------------------
# torch.set_grad_enabled is both: a block that restores, and a call that stays.


def switched_in_torch(cell):
    """Whether gradients are on: in the block, after it, after a call, after one more."""
    import torch

    x = torch.tensor([3.0], dtype=cell.dtype, device=cell.device, requires_grad=True)
    seen = []
    with torch.enable_grad():
        for training in (False, True):
            with torch.set_grad_enabled(training):
                seen.append((x * x).requires_grad)
            seen.append((x * x).requires_grad)
        torch.set_grad_enabled(False)
        seen.append((x * x).requires_grad)
        with torch.set_grad_enabled(True):
            seen.append((x * x).requires_grad)
        seen.append((x * x).requires_grad)
    seen.append((x * x).requires_grad)
    return seen


@behaviour(
    "autograd.set-grad-enabled",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.set-grad-enabled-ends-with-gradients-on",
)
def test_set_grad_enabled(switched, cell, expect):
    """As a block set_grad_enabled restores; as a call it holds until the block around it ends.

    The habit `with torch.set_grad_enabled(phase == "train")` depends on the former.
    """
    in_and_after_two_blocks = [False, True, True, True]
    called_off_then_a_block = [False, True, False]
    expect.exactly(
        observed=switched(cell),
        expected=[*in_and_after_two_blocks, *called_off_then_a_block, True],
        what="x² recorded",
    )


# ----------------------------------------------------------------------------------------------
# The tape of TensorFlow. The gradient of x² at 3 is 6 where it was recorded.


def gradients_in_tensorflow(cell, by_exception):
    """What the outer and the inner tape know of x² in the inner's block, and of x² after it."""
    import tensorflow as tf

    @cell.compile
    def gradients(x):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape(persistent=True) as inner:
                inner.watch(x)
                squares = []
                try:
                    with inner.stop_recording():
                        squares.append(x * x)
                        if by_exception:
                            raise Interruption
                except Interruption:
                    pass
                squares.append(x * x)
        return [
            [tape.gradient(square, x, unconnected_gradients="zero") for square in squares]
            for tape in (outer, inner)
        ]

    return gradients(tf.constant([3.0], cell.dtype))


@behaviour(
    "autograd.stop-recording-ends",
    frameworks="tensorflow",
    precisions="float64 float32",
    modes="eager compiled",
    catches="tensorflow.stopped-tape-stays-stopped-after-an-exception",
)
def test_stop_recording_ends(gradients, cell, expect):
    """After tape.stop_recording() the tape records again, also when an exception left the block.

    Another tape goes on meanwhile: it knows x² from within the block, with its gradient 6.
    """
    for end, by_exception in (("its end", False), ("an exception", True)):
        outer, inner = gradients(cell, by_exception)
        expect.exactly(observed=outer, expected=[[6.0], [6.0]], what=f"outer tape, {end}")
        expect.exactly(observed=inner, expected=[[0.0], [6.0]], what=f"inner tape, {end}")
