"""Early stopping in a loop of one's own: when to stop, and which weights to keep.

The rule: remember the best validation loss; an epoch that does not beat it counts, one that does
resets the count; stop when the count reaches the patience. The weights to keep are those of the
best epoch, not of the last, so they have to be copied while they are there. What copies them:

    torch        copy.deepcopy(model.state_dict()); state_dict() alone refers to the live tensors
    TensorFlow   model.get_weights(), variable.numpy(); a list of variables refers to them
    JAX          nothing to do: an update makes new arrays, and the old ones stay what they were

The loss -w has the gradient -1, so with learning rate 1 the weight is the number of the epoch. The
validation loss min(|w - 2| + 1, |w - 5|) has a shallow valley at 2 and a deep one at 5:

    epoch             1  2  3  4  5  6  7  8
    validation loss   2  1  2  1  0  1  2  3
    epochs waited     0  0  1  2  0  1  2  3     stop: the patience is 3

The tie in epoch 4 is no improvement. A count that is not reset stops at 6.

Sources: class 122, homework 3; class 101, definition of EarlyStopping and exercise 5;
catalogue: callbacks.early-stopping-patience; Prechelt 1998, Early Stopping - But When?;
https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html,
https://www.tensorflow.org/guide/keras/writing_a_training_loop_from_scratch
"""

from fixtures.matrix import behaviour

EPOCHS, PATIENCE = 12, 3

# ----------------------------------------------------------------------------------------------
# The loop, and what it ends with: best epoch, last epoch, weight after restoring the best.


def stopped_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(np.zeros(1, cell.dtype), requires_grad=True)
    optimizer = SGD([w], learning_rate=1.0)
    best_loss, best_epoch, best_weight, waited = float("inf"), 0, None, 0
    for epoch in range(1, EPOCHS + 1):
        optimizer.zero_grad()
        (-w.sum()).backward()
        optimizer.step()
        loss = np.minimum(np.abs(w.data - 2) + 1, np.abs(w.data - 5)).item()
        if loss < best_loss:
            best_loss, best_epoch, best_weight, waited = loss, epoch, w.data.copy(), 0
        else:
            waited += 1
            if waited == PATIENCE:
                break
    w.data = best_weight
    return best_epoch, epoch, w


def stopped_in_torch(cell):
    import copy

    import torch

    model = torch.nn.Linear(1, 1, bias=False, dtype=cell.dtype, device=cell.device)
    torch.nn.init.zeros_(model.weight)
    one = torch.ones(1, 1, dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    best_loss, best_epoch, best_state, waited = float("inf"), 0, None, 0
    for epoch in range(1, EPOCHS + 1):
        optimizer.zero_grad()
        (-model(one)).sum().backward()
        optimizer.step()
        w = model.weight.item()
        loss = min(abs(w - 2) + 1, abs(w - 5))
        if loss < best_loss:
            best_loss, best_epoch, waited = loss, epoch, 0
            best_state = copy.deepcopy(model.state_dict())
        else:
            waited += 1
            if waited == PATIENCE:
                break
    model.load_state_dict(best_state)
    return best_epoch, epoch, model.weight


def stopped_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    model = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=cell.dtype.name)
    model.build((None, 1))
    optimizer = keras.optimizers.SGD(learning_rate=1.0)
    optimizer.build(model.trainable_variables)
    one = tf.ones((1, 1), cell.dtype)

    @cell.compile
    def train_step(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_sum(model(x))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    best_loss, best_epoch, best_weights, waited = float("inf"), 0, None, 0
    for epoch in range(1, EPOCHS + 1):
        train_step(one)
        w = float(model.kernel.numpy().item())
        loss = min(abs(w - 2) + 1, abs(w - 5))
        if loss < best_loss:
            best_loss, best_epoch, waited = loss, epoch, 0
            best_weights = model.get_weights()
        else:
            waited += 1
            if waited == PATIENCE:
                break
    model.set_weights(best_weights)
    return best_epoch, epoch, tf.identity(model.kernel)


def stopped_in_jax(cell):
    """The best parameters are a name for arrays that no update changes."""
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.sgd(learning_rate=1.0)

    @cell.compile
    def train_step(parameters, state):
        gradients = jax.grad(lambda parameters: -parameters["w"])(parameters)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    parameters = {"w": jnp.zeros((), cell.dtype)}
    state = optimizer.init(parameters)
    best_loss, best_epoch, best_parameters, waited = float("inf"), 0, None, 0
    for epoch in range(1, EPOCHS + 1):
        parameters, state = train_step(parameters, state)
        w = float(parameters["w"])
        loss = min(abs(w - 2) + 1, abs(w - 5))
        if loss < best_loss:
            best_loss, best_epoch, best_parameters, waited = loss, epoch, parameters, 0
        else:
            waited += 1
            if waited == PATIENCE:
                break
    return best_epoch, epoch, best_parameters["w"]


@behaviour(
    "training-loop.early-stopping-patience",
    frameworks="numpy torch tensorflow jax",
    precisions="float32",
    modes={"torch": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    catches="torch.deepcopy-shares-memory torch.load-state-dict-moves-by-a-thousandth "
    "keras.get-weights-refers-to-the-model jax.compiled-gradient-off-by-a-thousandth",
)
def test_early_stopping_patience(stopped, cell, expect):
    """With patience 3 the loop ends after epoch 8 and hands back the weight 5 of epoch 5.

    Small integers: nothing rounds.
    """
    best_epoch, last_epoch, weight = stopped(cell)
    expect.exactly(observed=best_epoch, expected=5, what="best epoch")
    expect.exactly(observed=last_epoch, expected=8, what="last epoch")
    expect.exactly(observed=weight, expected=5.0, what="restored weight")


# ----------------------------------------------------------------------------------------------
# The common mistake: a reference instead of a copy. Three epochs after it was "saved" at w = 5, the
# best state says 8.


def alias_in_numpy(cell):
    import numpy as np

    w = np.array([5.0], cell.dtype)
    best = {"w": w}
    for _ in range(3):
        w += 1
    return best["w"]


def copy_in_numpy(cell):
    import numpy as np

    w = np.array([5.0], cell.dtype)
    best = {"w": w.copy()}
    for _ in range(3):
        w += 1
    return best["w"]


def alias_in_torch(cell):
    import torch

    model = torch.nn.Linear(1, 1, bias=False, dtype=cell.dtype, device=cell.device)
    torch.nn.init.constant_(model.weight, 5.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    best = model.state_dict()
    for _ in range(3):
        optimizer.zero_grad()
        (-model.weight).sum().backward()
        optimizer.step()
    return best["weight"]


def copy_in_torch(cell):
    import copy

    import torch

    model = torch.nn.Linear(1, 1, bias=False, dtype=cell.dtype, device=cell.device)
    torch.nn.init.constant_(model.weight, 5.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    best = copy.deepcopy(model.state_dict())
    for _ in range(3):
        optimizer.zero_grad()
        (-model.weight).sum().backward()
        optimizer.step()
    return best["weight"]


def alias_in_tensorflow(cell):
    """The list is new, the variables in it are not."""
    import tensorflow as tf

    w = tf.Variable(5.0, dtype=cell.dtype)
    best = [w]
    for _ in range(3):
        w.assign_add(1.0)
    return best[0]


def copy_in_tensorflow(cell):
    import tensorflow as tf

    w = tf.Variable(5.0, dtype=cell.dtype)
    best = [tf.identity(w)]
    for _ in range(3):
        w.assign_add(1.0)
    return best[0]


@behaviour(
    "training-loop.early-stopping-aliased-state",
    frameworks="numpy torch tensorflow",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="torch.deepcopy-shares-memory torch.state-dict-is-a-copy "
    "tensorflow.identity-of-a-variable-is-the-variable",
)
def test_early_stopping_aliased_state(alias, copy, cell, expect):
    """A best state that refers to the live weights follows them from 5 to 8; a copy stays at 5."""
    expect.exactly(observed=alias(cell), expected=8.0, what="referred best weight")
    expect.exactly(observed=copy(cell), expected=5.0, what="copied best weight")
