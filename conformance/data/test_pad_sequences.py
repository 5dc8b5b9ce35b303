"""Padding sequences to one length: Keras fills and cuts at the start, torch fills at the end.

The sequences (1, 2, 3) and (4), to the length 5 and to the length 2:

                                            length 5              length 2
    keras pad_sequences                  0 0 1 2 3             2 3
                                         0 0 0 0 4             0 4
    with padding and truncating "post"   1 2 3 0 0             1 2
                                         4 0 0 0 0             4 0
    torch pad_sequence                   1 2 3                 (the longest rules; it never cuts)
                                         4 0 0

A recurrent layer of Keras that reads to the end, without a mask, sees the words last with "pre" and
zeros last with "post"; the tokenizers of BERT pad at the end, so does torch. Whoever mixes both
feeds a model words where it has learnt zeros.

Sources: class 145, homework 2; https://keras.io/api/data_loading/timeseries/#pad_sequences-function,
https://www.tensorflow.org/api_docs/python/tf/keras/utils/pad_sequences,
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_sequence.html
"""

from fixtures.matrix import behaviour

SEQUENCES = [[1, 2, 3], [4]]


def padded_in_keras(cell, length, **options):
    import keras

    padded = keras.utils.pad_sequences(SEQUENCES, maxlen=length, dtype=cell.precision, **options)
    return padded.tolist()


@behaviour(
    "text.pad-sequences-defaults",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.pads-at-the-end keras.cuts-at-the-end",
)
def test_pad_sequences_defaults(padded, cell, expect):
    """(1, 2, 3) becomes 0 0 1 2 3 and 2 3; with "post" it becomes 1 2 3 0 0 and 1 2.

    padding and truncating are apart: "pre" of one goes with "post" of the other. Without maxlen the
    longest sequence rules, and value=9 fills with nines.
    """
    post = {"padding": "post", "truncating": "post"}
    for what, expected, length, options in (
        ("length 5", [[0, 0, 1, 2, 3], [0, 0, 0, 0, 4]], 5, {}),
        ("length 2", [[2, 3], [0, 4]], 2, {}),
        ("length 5, post", [[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]], 5, post),
        ("length 2, post", [[1, 2], [4, 0]], 2, post),
        ("length 2, padding post", [[2, 3], [4, 0]], 2, {"padding": "post"}),
        ("length 2, truncating post", [[1, 2], [0, 4]], 2, {"truncating": "post"}),
        ("no length", [[1, 2, 3], [9, 9, 4]], None, {"value": 9.0}),
    ):
        expect.exactly(observed=padded(cell, length, **options), expected=expected, what=what)


def filled_in_torch(cell, **options):
    import torch

    sequences = [
        torch.tensor(numbers, dtype=cell.dtype, device=cell.device) for numbers in SEQUENCES
    ]
    return torch.nn.utils.rnn.pad_sequence(sequences, **options)


@behaviour(
    "text.torch-pad-sequence",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.pad-sequence-puts-the-batch-first",
)
def test_torch_pad_sequence(filled, cell, expect):
    """torch fills at the end, and time is the first axis unless batch_first=True."""
    expect.exactly(observed=filled(cell), expected=[[1, 4], [2, 0], [3, 0]], what="time first")
    expect.exactly(
        observed=filled(cell, batch_first=True, padding_value=9.0),
        expected=[[1, 2, 3], [4, 9, 9]],
        what="batch first, filled with 9",
    )
