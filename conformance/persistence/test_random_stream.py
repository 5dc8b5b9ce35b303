"""Random numbers are part of what a checkpoint has to hold.

A run that draws two dropout masks, is saved, and draws two more must draw the same two more after
it was loaded. Where the state of the generator is not saved, a script that seeds at its start draws
the first two masks once again, and the network sees the same noise twice.

    torch    one global generator: torch.get_rng_state() has to be saved with the weights
    Keras    every Dropout owns a seed that counts on: one of the model's variables, but not of its
             weights, so model.save leaves it out, and it has to be saved beside the model
    Flax     every nnx.Dropout draws from an nnx.Rngs, a key and a counter: nnx.state holds both

Each mask has 64 elements of which each is dropped with probability 1/2: two that were drawn apart
are equal with probability 2**-64, about 5e-20.

Sources: class 104, objective and exercise 5;
https://docs.pytorch.org/docs/stable/generated/torch.get_rng_state.html,
https://keras.io/api/layers/base_layer/,
https://flax.readthedocs.io/en/latest/guides/randomness.html
"""

from fixtures.matrix import behaviour

UNITS = 64


def continued_and_loaded_in_torch(cell, folder):
    import torch

    ones = torch.ones(UNITS, dtype=cell.dtype, device=cell.device)

    def mask():
        return torch.nn.functional.dropout(ones, 0.5, training=True)

    torch.manual_seed(cell.seed)
    first = [mask(), mask()]
    state = {"cpu": torch.get_rng_state()}
    if cell.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state()
    torch.save(state, folder / "rng.pt")
    continued = [mask(), mask()]

    torch.manual_seed(cell.seed)
    without = [mask(), mask()]

    torch.manual_seed(cell.seed)
    state = torch.load(folder / "rng.pt", weights_only=True)
    torch.set_rng_state(state["cpu"])
    if cell.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])
    return first, continued, [mask(), mask()], without


def continued_and_loaded_in_keras(cell, folder):
    import keras
    import numpy as np

    ones = keras.ops.ones((1, UNITS), dtype=cell.dtype)

    def new_model():
        return keras.Sequential(
            [keras.Input((UNITS,)), keras.layers.Dropout(0.5, seed=3, dtype=cell.dtype)]
        )

    def two_masks(model):
        return [model(ones, training=True) for _ in range(2)]

    model = new_model()
    first = two_masks(model)
    model.save(folder / "model.keras")
    [seed] = model.variables  # a Dropout has no other
    np.save(folder / "seed.npy", keras.ops.convert_to_numpy(seed))
    continued = two_masks(model)

    loaded = keras.models.load_model(folder / "model.keras")
    [seed] = loaded.variables
    seed.assign(np.load(folder / "seed.npy"))
    return first, continued, two_masks(loaded), two_masks(new_model())


def continued_and_loaded_in_jax(cell, folder):
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from flax.serialization import msgpack_restore, msgpack_serialize

    ones = jnp.ones(UNITS, cell.dtype)

    def new_layer():
        return nnx.Dropout(0.5, deterministic=False, rngs=nnx.Rngs(cell.seed))

    def two_masks(layer):
        return [layer(ones) for _ in range(2)]

    def numbers_of(layer):
        """The leaves of its state: keys as the integers they are made of."""
        return [
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
            for leaf in jax.tree.leaves(nnx.state(layer))
        ]

    layer = new_layer()
    first = two_masks(layer)
    saved = {str(i): jax.device_get(leaf) for i, leaf in enumerate(numbers_of(layer))}
    (folder / "state.msgpack").write_bytes(msgpack_serialize(saved))
    continued = two_masks(layer)

    loaded = new_layer()
    numbers = msgpack_restore((folder / "state.msgpack").read_bytes())
    leaves, structure = jax.tree.flatten(nnx.state(loaded))
    restored = [
        jax.random.wrap_key_data(jnp.asarray(numbers[str(i)]))
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.asarray(numbers[str(i)])
        for i, leaf in enumerate(leaves)
    ]
    nnx.update(loaded, jax.tree.unflatten(structure, restored))
    return first, continued, two_masks(loaded), two_masks(new_layer())


@behaviour(
    "persistence.resume-random-stream",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="torch.set-rng-state-does-nothing keras.seed-generator-stands-still "
    "flax.restored-counters-begin-anew",
)
def test_resume_random_stream(continued_and_loaded, cell, expect, tmp_path):
    """With the generator's state saved, the masks after loading are the third and fourth.

    Without it they are the first and second again.
    """
    first, continued, loaded, without = continued_and_loaded(cell, tmp_path)
    expected = [cell.to_numpy(mask) for mask in continued]
    expect.exactly(observed=loaded, expected=expected, what="masks after loading")
    again = [cell.to_numpy(mask) for mask in first]
    expect.exactly(observed=without, expected=again, what="masks after seeding anew")
    differs = bool((expected[0] != again[0]).any() and (expected[0] != expected[1]).any())
    expect.exactly(observed=differs, expected=True, what="whether masks differ from each other")
