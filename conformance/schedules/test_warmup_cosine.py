"""Linear warm-up, then cosine decay: the learning rate of every step.

The rate rises in a straight line for the first steps, while averages are still settling, and then
falls along half a cosine. Every framework has it, with other words and another idea of its length:

                initial     peak             end                 steps
    Keras       first       warmup_target    alpha * peak        warmup_steps, decay_steps after it
    optax       init_value  peak_value       end_value           warmup_steps, decay_steps with it
    torch       LinearLR(start_factor, total_iters), then CosineAnnealingLR(T_max, eta_min), put
                together by SequentialLR(milestones): T_max counts the steps after the warm-up

After the last step Keras and optax stay at the end value. torch's CosineAnnealingLR goes on along
the cosine, back up to the peak: who trains longer than planned trains with a rising rate.

Each rate is read off what the optimizer does with it: from w = 0 a gradient of -1 takes w to the
rate itself. torch computes rates as Python numbers, Keras and optax in float32 (an int32 step
divided by an integer is float32 in JAX, in 64-bit mode too).

Sources: class 115, definitions of warm-up and cosine annealing, exercise 3, learning outcome 3 and
common mistake 1; https://keras.io/api/optimizers/learning_rate_schedules/cosine_decay/,
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.SequentialLR.html,
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingLR.html,
https://lightning.ai/docs/pytorch/stable/common/optimization.html,
https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html#optax.warmup_cosine_decay_schedule
"""

from conformance.schedules.read_off import (
    rates_of_keras,
    rates_of_optax,
    rates_of_tensorflow,
    rates_of_torch,
)
from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from reference.schedules import warmup_cosine

# Steps 0 to 3 warm up, step 4 has the peak, step 12 the end; the last ones are beyond the end.
INITIAL, PEAK, END = 1 / 32, 1 / 8, 1 / 64
WARMUP_STEPS, DECAY_STEPS = 4, 8
STEPS = 22

periodic_in_numpy = False
periodic_in_torch = True
periodic_in_lightning = True
periodic_in_tensorflow = False
periodic_in_keras = False
periodic_in_jax = False

rate_precision_in_numpy = "float64"
rate_precision_in_torch = "float64"
rate_precision_in_lightning = "float64"
rate_precision_in_tensorflow = "float32"
rate_precision_in_keras = "float32"
rate_precision_in_jax = "float32"


def rates_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype))
    optimizer = SGD([w], learning_rate=0.0)
    rates = []
    for step in range(STEPS):
        optimizer.learning_rate = warmup_cosine(
            step,
            initial=INITIAL,
            peak=PEAK,
            end=END,
            warmup_steps=WARMUP_STEPS,
            decay_steps=DECAY_STEPS,
        )
        w.data, w.grad = np.zeros(1, cell.dtype), -np.ones(1, cell.dtype)
        optimizer.step()
        rates.append(w.data)
    return rates


def rates_in_torch(cell):
    import torch

    def schedule(optimizer):
        warmup = torch.optim.lr_scheduler.LinearLR(
            optimizer, start_factor=INITIAL / PEAK, total_iters=WARMUP_STEPS
        )
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, T_max=DECAY_STEPS, eta_min=END
        )
        return torch.optim.lr_scheduler.SequentialLR(
            optimizer, [warmup, decay], milestones=[WARMUP_STEPS]
        )

    return rates_of_torch(cell, STEPS, PEAK, schedule)


def rates_in_lightning(cell):
    """interval="step" lets the Trainer call scheduler.step() after every batch."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.rates = []

        def training_step(self, batch, batch_index):
            with torch.no_grad():
                self.w.zero_()
            return -self.w.sum()

        def on_train_batch_end(self, outputs, batch, batch_index):
            self.rates.append(self.w.detach().clone())

        def configure_optimizers(self):
            optimizer = torch.optim.SGD([self.w], lr=PEAK)
            warmup = torch.optim.lr_scheduler.LinearLR(
                optimizer, start_factor=INITIAL / PEAK, total_iters=WARMUP_STEPS
            )
            decay = torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, T_max=DECAY_STEPS, eta_min=END
            )
            scheduler = torch.optim.lr_scheduler.SequentialLR(
                optimizer, [warmup, decay], milestones=[WARMUP_STEPS]
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
            }

    model = Line()
    batches = torch.utils.data.DataLoader([0] * STEPS)
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, batches)
    return model.rates


def rates_in_tensorflow(cell):
    import keras

    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=INITIAL,
        decay_steps=DECAY_STEPS,
        alpha=END / PEAK,
        warmup_target=PEAK,
        warmup_steps=WARMUP_STEPS,
    )
    return rates_of_tensorflow(cell, STEPS, schedule)


def rates_in_keras(cell):
    import keras

    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=INITIAL,
        decay_steps=DECAY_STEPS,
        alpha=END / PEAK,
        warmup_target=PEAK,
        warmup_steps=WARMUP_STEPS,
    )
    return rates_of_keras(cell, STEPS, schedule)


def rates_in_jax(cell):
    import optax

    schedule = optax.warmup_cosine_decay_schedule(
        init_value=INITIAL,
        peak_value=PEAK,
        warmup_steps=WARMUP_STEPS,
        decay_steps=WARMUP_STEPS + DECAY_STEPS,
        end_value=END,
    )
    return rates_of_optax(cell, STEPS, schedule)


@behaviour(
    "schedules.warmup-cosine",
    frameworks="numpy torch lightning tensorflow keras jax",
    precisions={
        "tensorflow": "float32",
        "keras": "float32",
        "jax": "float32",
        "others": "float64 float32",
    },
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    catches="torch.cosine-annealing-through-float32 torch.cosine-annealing-stays-at-its-end "
    "torch.sequential-schedules-all-begin-at-once optax.cosine-decays-for-the-warmup-longer "
    "keras.warmup-a-step-ahead[tensorflow-*|keras_tensorflow-*] "
    "lightning.schedules-step-twice-a-batch",
)
def test_warmup_cosine(rates, periodic, rate_precision, cell, expect):
    """Four steps from 1/32 up to 1/8, eight along half a cosine down to 1/64, at every step.

    Step 0 has 1/32, step 2 half-way 5/64, step 4 the peak 1/8, step 8 half-way 9/128, step 12 the
    end 1/64. After that Keras and optax stay there; torch swings back, at 1/8 again at step 20.

    An angle of up to π is rounded three times, its cosine four, and the sums and products around
    it add five: at most 3π + 9 < 20 units of the peak, and fewer for a line. torch computes each
    rate from the one before, by a ratio of two such cosines: 40 units more in each of 18 steps.
    Rate and step are rounded once more each on their way to w.
    """
    units = 40 * 18 if periodic else 20
    bound = Bound(
        absolute=accumulated(units, rate_precision) * PEAK,
        relative=accumulated(2, cell.precision),
        because=f"{units} roundings of the peak in {rate_precision}, two in {cell.precision}",
    )
    expected = [
        [
            warmup_cosine(
                step,
                initial=INITIAL,
                peak=PEAK,
                end=END,
                warmup_steps=WARMUP_STEPS,
                decay_steps=DECAY_STEPS,
                periodic=periodic,
            )
        ]
        for step in range(STEPS)
    ]
    expect.within(bound, observed=rates(cell), expected=expected, what="learning rates")


# ----------------------------------------------------------------------------------------------
# The common mistake: warmup_steps without warmup_target.


def mistake_in_tensorflow(cell):
    import keras

    schedule = keras.optimizers.schedules.CosineDecay(PEAK, DECAY_STEPS, warmup_steps=WARMUP_STEPS)
    return schedule(0)


def fix_in_tensorflow(cell):
    import keras

    schedule = keras.optimizers.schedules.CosineDecay(
        INITIAL, DECAY_STEPS, warmup_target=PEAK, warmup_steps=WARMUP_STEPS
    )
    return schedule(0)


mistake_in_keras = mistake_in_tensorflow
fix_in_keras = fix_in_tensorflow


@behaviour(
    "schedules.cosine-warmup-steps-alone",
    frameworks="tensorflow keras",
    precisions="float32",
    modes="eager",
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow"},
    catches="keras.warmup-without-a-target[keras_torch-*|keras_jax-*]",
)
def test_cosine_warmup_steps_alone(mistake, fix, cell, expect):
    """CosineDecay(1/8, 8, warmup_steps=4) does not warm up: the rate of step 0 is the full 1/8.

    Only a warmup_target makes the first argument the start of a warm-up: then step 0 has 1/32.
    """
    expect.exactly(observed=mistake(cell), expected=PEAK, what="rate without warmup_target")
    expect.exactly(observed=fix(cell), expected=INITIAL, what="rate with warmup_target")
