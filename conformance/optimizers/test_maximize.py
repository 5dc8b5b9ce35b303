"""Uphill: where an optimizer climbs instead of descending, and who says so.

A reward is maximised, a loss minimised. Gradient ascent adds what descent subtracts, and every
framework can be told so in its own way:

    torch    maximize=True: a setting of the optimizer
    optax    updates are *added*: sgd ends with a factor of -rate, and scale(-1) behind it turns it
    Keras    there is no setting: minimise the negative reward

For the reward w, whose gradient is 1, with rate 1 and momentum 1/2 the velocity is 1, then 3/2:

    step                0      1      2
    maximised           0      1     5/2
    minimised           0     -1    -5/2      the mistake: the reward falls

Sources: class 113, definitions of SGD and momentum; class 107, definitions (gradient descent);
https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html,
https://optax.readthedocs.io/en/latest/getting_started.html,
https://optax.readthedocs.io/en/latest/api/apply_updates.html,
https://keras.io/api/optimizers/sgd/
"""

from fixtures.matrix import behaviour

RATE = 1.0
MOMENTUM = 1 / 2


def maximised_in_numpy(cell):
    """The weight after each of two steps along the gradient 1 of the reward."""
    return _steps_in_numpy(cell, gradient=-1.0)


def minimised_in_numpy(cell):
    return _steps_in_numpy(cell, gradient=1.0)


def _steps_in_numpy(cell, gradient):
    import numpy as np

    from reference.optimizers import sgd_update

    weight, velocity, weights = np.zeros(1, cell.dtype), np.zeros(1, cell.dtype), []
    for _ in range(2):
        weight, velocity = sgd_update(
            weight,
            np.full(1, gradient, cell.dtype),
            velocity,
            learning_rate=RATE,
            momentum=MOMENTUM,
        )
        weights.append(weight)
    return weights


def maximised_in_torch(cell):
    return _steps_in_torch(cell, maximize=True)


def minimised_in_torch(cell):
    return _steps_in_torch(cell)


def _steps_in_torch(cell, **options):
    import torch

    weight = torch.zeros(1, dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD([weight], lr=RATE, momentum=MOMENTUM, **options)
    weights = []
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        weights.append(weight.clone())
    return weights


def maximised_in_keras(cell):
    """The negative reward has the gradient -1."""
    return _steps_in_keras(cell, gradient=-1.0)


def minimised_in_keras(cell):
    return _steps_in_keras(cell, gradient=1.0)


def _steps_in_keras(cell, gradient):
    import keras

    weight = keras.Variable([0.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    weights = []
    for _ in range(2):
        optimizer.apply([keras.ops.full((1,), gradient, cell.dtype)], [weight])
        weights.append(keras.ops.copy(weight))
    return weights


def maximised_in_jax(cell):
    import optax

    return _steps_in_jax(cell, optax.chain(optax.sgd(RATE, MOMENTUM), optax.scale(-1.0)))


def minimised_in_jax(cell):
    import optax

    return _steps_in_jax(cell, optax.sgd(RATE, MOMENTUM))


def _steps_in_jax(cell, optimizer):
    import jax.numpy as jnp
    import optax

    @cell.compile
    def step(weight, state):
        updates, state = optimizer.update(jnp.ones_like(weight), state, weight)
        return optax.apply_updates(weight, updates), state

    weight, weights = jnp.zeros(1, cell.dtype), []
    state = optimizer.init(weight)
    for _ in range(2):
        weight, state = step(weight, state)
        weights.append(weight)
    return weights


@behaviour(
    "optimizers.gradient-ascent",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64 float32 float16", "others": "float64 float32 bfloat16 float16"},
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2"},
    costly="jax-*float16-eager",
    catches="torch.maximize-ends-where-momentum-begins torch.momentum-is-an-average "
    "optax.scale-loses-its-sign",
)
def test_gradient_ascent(maximised, minimised, cell, expect):
    """Maximised, w climbs to 1 and 5/2; minimised, it falls to -1 and -5/2."""
    expect.exactly(observed=maximised(cell), expected=[[1.0], [2.5]], what="w, maximised")
    expect.exactly(observed=minimised(cell), expected=[[-1.0], [-2.5]], what="w, minimised")


# ----------------------------------------------------------------------------------------------
# maximize=True of all optimizers of torch: the path of minimising, in a mirror. What the weights
# have besides the reward, their decay, still pulls towards 0.

OPTIMIZERS = {
    "SGD": {"momentum": 0.5, "nesterov": True},
    "Adam": {},
    "AdamW": {},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adagrad": {},
    "Adadelta": {},
    "Adamax": {},
    "ASGD": {},
    "Rprop": {},
}


def path_in_torch(cell, name, gradients, start=0.0, **options):
    """The weight after each step."""
    import torch

    weight = torch.tensor([start], dtype=cell.dtype, device=cell.device)
    optimizer = getattr(torch.optim, name)([weight], **{"lr": 0.125, **options})
    weights = []
    for gradient in gradients:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        weights.append(weight.clone())
    return torch.stack(weights)


@behaviour(
    "optimizers.maximize-mirrors",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.maximize-ends-where-momentum-begins torch.foreach-rmsprop-never-maximizes",
)
def test_maximize_mirrors(path, cell, expect):
    """maximize=True from 0 goes where minimising goes, with the sign changed: in all optimizers.

    And so in the implementations of a loop and of foreach=True.
    """
    gradients = (1.0, 0.25, -3.0, 1.0)
    for name, options in OPTIMIZERS.items():
        for foreach in (False, True):
            downhill = path(cell, name, gradients, foreach=foreach, **options)
            uphill = path(cell, name, gradients, foreach=foreach, maximize=True, **options)
            what = f"{name}, foreach={foreach}"
            expect.exactly(
                observed=uphill, expected=-expect.numeric(downhill), what=f"path uphill, {what}"
            )
            expect.exactly(
                observed=bool(uphill[0] > 0), expected=True, what=f"the first step climbs, {what}"
            )


@behaviour(
    "optimizers.maximize-still-decays",
    frameworks="torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="torch.maximize-turns-the-decay-too",
)
def test_maximize_still_decays(path, cell, expect):
    """maximize=True turns the gradient, not the decay: without a gradient 1 becomes 3/4, 9/16.

    With rate 1/2 and decay 1/2, in SGD and AdamW.
    """
    for name, options in (("SGD", {}), ("AdamW", {"eps": 0.5})):
        for foreach in (False, True):
            weights = path(
                cell,
                name,
                (0.0, 0.0),
                start=1.0,
                lr=0.5,
                weight_decay=0.5,
                maximize=True,
                foreach=foreach,
                **options,
            )
            expect.exactly(
                observed=weights, expected=[[3 / 4], [9 / 16]], what=f"{name}, foreach={foreach}"
            )


# ----------------------------------------------------------------------------------------------
# The sign of optax is in the updates themselves. A chain of one's own needs its minus sign: with
# trace alone, which is momentum, the "minimiser" climbs.


def updates_in_jax(cell):
    """The second update of sgd, of trace, and of trace with a scale of -rate."""
    import jax.numpy as jnp
    import optax

    updates = []
    for optimizer in (
        optax.sgd(RATE, MOMENTUM),
        optax.trace(MOMENTUM),
        optax.chain(optax.trace(MOMENTUM), optax.scale(-RATE)),
    ):
        gradient = jnp.ones(1, cell.dtype)
        state = optimizer.init(gradient)
        for _ in range(2):
            update, state = optimizer.update(gradient, state)
        updates.append(update)
    return updates


def applied_in_jax(cell):
    import jax.numpy as jnp
    import optax

    weights = {"kernel": jnp.ones(1, cell.dtype), "bias": jnp.zeros(1, cell.dtype)}
    updates = {"kernel": jnp.full(1, 0.5, cell.dtype), "bias": jnp.full(1, -0.25, cell.dtype)}
    applied = optax.apply_updates(weights, updates)
    return [applied["kernel"], applied["bias"]]


@behaviour(
    "optimizers.optax-updates-are-added",
    frameworks="jax",
    precisions="float64 float32",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="optax.scale-loses-its-sign optax.apply-updates-subtracts",
)
def test_optax_updates_are_added(updates, applied, cell, expect):
    """apply_updates adds: 1 and 1/2 are 3/2. So the updates of a minimiser carry the minus sign.

    After two gradients of 1 with momentum 1/2 the update of sgd is -3/2. The mistake is a chain
    without a negative factor: trace alone gives +3/2, and climbs; scale(-1) behind it cures it.
    """
    expect.exactly(observed=applied(cell), expected=[[1.5], [-0.25]], what="applied")
    expect.exactly(
        observed=updates(cell), expected=[[-1.5], [1.5], [-1.5]], what="sgd, trace, trace and scale"
    )
