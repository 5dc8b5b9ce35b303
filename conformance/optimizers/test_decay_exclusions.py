"""No decay of biases: weight decay for some parameters, none for others.

Decay pulls a weight towards zero, and it is meant for the kernels. Biases, and the scales and
offsets of normalization layers, are left out: the recipe of BERT, of GPT and of most since. Every
framework has a way to say so, and none does it by itself:

    torch, Lightning   a parameter group of its own, {"params": ..., "weight_decay": 0.0}
    Keras, TensorFlow  optimizer.exclude_from_weight_decay(var_list=..., var_names=["bias"])
    optax              adamw(mask=...): a tree of True and False, or a function that makes one

With a gradient of zero AdamW does nothing but decay, by 1 - rate * decay. Rate 1/2 and decay 1/2:

    step        0     1      2
    kernel      1    3/4    9/16
    bias        1     1      1
    the mistake 1    3/4    9/16      one setting for all: the bias decays too

Sources: class 113, definitions of AdamW and weight_decay, common mistake 2; Devlin et al. (2019),
arXiv:1810.04805, appendix A.2;
https://docs.pytorch.org/docs/stable/optim.html#per-parameter-options,
https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html,
https://keras.io/api/optimizers/adamw/,
https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.adamw
"""

from fixtures.matrix import behaviour

RATE = 1 / 2
DECAY = 1 / 2
EPSILON = 1 / 2  # 0 / (0 + 1e-8) is 0 / 0 in float16
KERNEL = [[3 / 4], [9 / 16]]
BIAS = [[1.0], [1.0]]


def decayed_in_torch(cell, exclude):
    """The kernel after each of two steps, and the bias."""
    import torch

    kernel, bias = (torch.ones(1, dtype=cell.dtype, device=cell.device) for _ in range(2))
    groups = [{"params": [kernel]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups if exclude else [kernel, bias], lr=RATE, eps=EPSILON, weight_decay=DECAY
    )
    kernels, biases = [], []
    for _ in range(2):
        kernel.grad, bias.grad = torch.zeros_like(kernel), torch.zeros_like(bias)
        optimizer.step()
        kernels.append(kernel.clone())
        biases.append(bias.clone())
    return kernels, biases


def decayed_in_lightning(cell, exclude):
    import lightning
    import torch

    class Constant(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.kernel = torch.nn.Parameter(torch.ones(1))
            self.bias = torch.nn.Parameter(torch.ones(1))
            self.kernels, self.biases = [], []

        def training_step(self, batch, batch_index):
            return 0.0 * (self.kernel + self.bias).sum()

        def on_train_batch_end(self, outputs, batch, batch_index):
            self.kernels.append(self.kernel.detach().clone())
            self.biases.append(self.bias.detach().clone())

        def configure_optimizers(self):
            groups = [{"params": [self.kernel]}, {"params": [self.bias], "weight_decay": 0.0}]
            parameters = groups if exclude else self.parameters()
            return torch.optim.AdamW(parameters, lr=RATE, eps=EPSILON, weight_decay=DECAY)

    model = Constant()
    two_batches = torch.utils.data.DataLoader([0, 0])
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, two_batches)
    return model.kernels, model.biases


def decayed_in_tensorflow(cell, exclude):
    import keras
    import tensorflow as tf

    kernel = tf.Variable([1.0], dtype=cell.dtype, name="kernel")
    bias = tf.Variable([1.0], dtype=cell.dtype, name="bias")
    optimizer = keras.optimizers.AdamW(RATE, epsilon=EPSILON, weight_decay=DECAY)
    if exclude:
        optimizer.exclude_from_weight_decay(var_list=[bias])
    optimizer.build([kernel, bias])
    zero = tf.zeros(1, cell.dtype)

    @cell.compile
    def step():
        optimizer.apply_gradients([(zero, kernel), (zero, bias)])
        return tf.identity(kernel), tf.identity(bias)

    return zip(*[step() for _ in range(2)], strict=True)


def decayed_in_keras(cell, exclude):
    import keras

    kernel = keras.Variable([1.0], dtype=cell.dtype, name="kernel")
    bias = keras.Variable([1.0], dtype=cell.dtype, name="the_bias_of_a_layer")
    optimizer = keras.optimizers.AdamW(RATE, epsilon=EPSILON, weight_decay=DECAY)
    if exclude:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build([kernel, bias])
    zero = keras.ops.zeros(1, cell.dtype)
    kernels, biases = [], []
    for _ in range(2):
        optimizer.apply([zero, zero], [kernel, bias])
        kernels.append(kernel + 0)
        biases.append(bias + 0)
    return kernels, biases


def decayed_in_jax(cell, exclude):
    import jax.numpy as jnp
    import optax

    parameters = {"kernel": jnp.ones(1, cell.dtype), "bias": jnp.ones(1, cell.dtype)}
    mask = {"kernel": True, "bias": False} if exclude else None
    optimizer = optax.adamw(RATE, eps=EPSILON, weight_decay=DECAY, mask=mask)
    state = optimizer.init(parameters)

    @cell.compile
    def step(parameters, state):
        zeros = {name: jnp.zeros(1, cell.dtype) for name in parameters}
        updates, state = optimizer.update(zeros, state, parameters)
        return optax.apply_updates(parameters, updates), state

    kernels, biases = [], []
    for _ in range(2):
        parameters, state = step(parameters, state)
        kernels.append(parameters["kernel"])
        biases.append(parameters["bias"])
    return kernels, biases


@behaviour(
    "optimizers.no-decay-of-biases",
    frameworks="torch lightning tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly="jax-*float16-eager keras_jax-*float16-eager",
    catches="torch.adam-decays-every-group-alike keras.excluded-variables-decay[tensorflow-*] "
    "keras.excluded-names-decay[keras_*] optax.adamw-ignores-its-mask",
)
def test_no_decay_of_biases(decayed, cell, expect):
    """Two steps take the kernel from 1 to 3/4 and 9/16; the bias that is left out stays at 1.

    Without the exclusion the bias decays with the kernel. Exact in every precision.
    """
    kernels, biases = decayed(cell, exclude=True)
    expect.exactly(observed=kernels, expected=KERNEL, what="kernel")
    expect.exactly(observed=biases, expected=BIAS, what="bias left out")

    _, biases = decayed(cell, exclude=False)
    expect.exactly(observed=biases, expected=KERNEL, what="bias that nobody left out")


# ----------------------------------------------------------------------------------------------
# Not AdamW alone. One step with a gradient of zero, rate 1/2 and decay 1/2 takes the weight from 1
# to 3/4 wherever the decay is decoupled. Where torch adds it to the gradient, g = decay * w = 1/2:
#
#     SGD        w - rate * g                                          = 1 - 1/2 * 1/2 = 3/4
#     Adagrad    w - rate * g / (sqrt(g**2) + epsilon), epsilon = 1/2  = 1 - 1/2 * 1/2 = 3/4
#     Adam       the same: at the first step the corrected averages are g and g**2
#
# The same settings are said in two ways: the decay is given to the kernel's group, or to all and
# taken away from the bias's.


def each_optimizer_in_torch(cell):
    """{optimizer, way of saying it: (kernel, bias)} after one step."""
    import torch

    optimizers = {
        "SGD": (torch.optim.SGD, {}),
        "Adagrad": (torch.optim.Adagrad, {"eps": EPSILON}),
        "Adam": (torch.optim.Adam, {"eps": EPSILON, "betas": (0.5, 0.5)}),
        "AdamW": (torch.optim.AdamW, {"eps": EPSILON, "betas": (0.5, 0.5)}),
    }
    found = {}
    for name, (optimizer_class, options) in optimizers.items():
        for way, of_kernel, of_bias, of_all in (
            ("decay of the kernel's group", {"weight_decay": DECAY}, {}, 0.0),
            ("no decay of the bias's group", {}, {"weight_decay": 0.0}, DECAY),
        ):
            kernel, bias = (torch.ones(1, dtype=cell.dtype, device=cell.device) for _ in range(2))
            groups = [{"params": [kernel], **of_kernel}, {"params": [bias], **of_bias}]
            optimizer = optimizer_class(groups, lr=RATE, weight_decay=of_all, **options)
            kernel.grad, bias.grad = torch.zeros_like(kernel), torch.zeros_like(bias)
            optimizer.step()
            found[f"{name}, {way}"] = kernel, bias
    return found


def each_optimizer_in_keras(cell):
    """The bias is named as a variable, and by a part of its name."""
    import keras

    found = {}
    for name in ("SGD", "RMSprop", "Adagrad", "Adam", "AdamW", "Nadam", "Adamax", "Lion"):
        for way in ("var_list", "var_names"):
            kernel = keras.Variable([1.0], dtype=cell.dtype, name="kernel")
            bias = keras.Variable([1.0], dtype=cell.dtype, name="the_bias_of_a_layer")
            optimizer = getattr(keras.optimizers, name)(RATE, weight_decay=DECAY)
            excluded = {"var_list": [bias], "var_names": ["bias"]}[way]
            optimizer.exclude_from_weight_decay(**{way: excluded})
            optimizer.build([kernel, bias])
            zero = keras.ops.zeros(1, cell.dtype)
            optimizer.apply([zero, zero], [kernel, bias])
            found[f"{name}, {way}"] = kernel, bias
    return found


def each_optimizer_in_jax(cell):
    """The mask is a tree, and a function of the parameters."""
    import jax
    import jax.numpy as jnp
    import optax

    parameters = {"kernel": jnp.ones((1, 1), cell.dtype), "bias": jnp.ones(1, cell.dtype)}
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    masks = {
        "a tree": {"kernel": True, "bias": False},
        "a function": lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree),
    }
    found = {}
    for name in ("adamw", "nadamw", "adamaxw", "lion"):
        for way, mask in masks.items():
            optimizer = getattr(optax, name)(RATE, weight_decay=DECAY, mask=mask)
            updates, _ = optimizer.update(zeros, optimizer.init(parameters), parameters)
            stepped = optax.apply_updates(parameters, updates)
            found[f"{name}, {way}"] = stepped["kernel"].reshape(1), stepped["bias"]
    return found


@behaviour(
    "optimizers.decay-of-some-parameters",
    frameworks="torch keras jax",
    precisions="float64 float32",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="torch.adam-decays-every-group-alike keras.excluded-variables-decay "
    "keras.excluded-names-decay optax.adamw-ignores-its-mask",
)
def test_decay_of_some_parameters(each_optimizer, cell, expect):
    """Every optimizer that decays leaves out what it is told to, whichever way it is told.

    One step takes the kernel from 1 to 3/4, exactly; the bias stays at 1.
    """
    for what, (kernel, bias) in each_optimizer(cell).items():
        expect.exactly(observed=kernel, expected=[0.75], what=f"kernel, {what}")
        expect.exactly(observed=bias, expected=[1.0], what=f"bias, {what}")
