"""Learning rates that depend on the step."""

import math


def warmup_cosine(step, *, initial, peak, end, warmup_steps, decay_steps, periodic=False):
    """The learning rate of step 0, 1, 2, ...: a line up, then half a cosine down.

    From `initial` at step 0 in a straight line to `peak` at step `warmup_steps`, then

        end + (peak - end) * (1 + cos(pi * t / decay_steps)) / 2     t = step - warmup_steps

    to `end`, where it stays; if `periodic` it goes on along the cosine, back to `peak` after as
    many steps again. Sources: Goyal et al. (2017), arXiv:1706.02677, section 2.2; Loshchilov and
    Hutter (2017), arXiv:1608.03983, equation 5.
    """
    if step < warmup_steps:
        return initial + (peak - initial) * step / warmup_steps
    fraction = (step - warmup_steps) / decay_steps
    if not periodic:
        fraction = min(fraction, 1.0)
    return end + (peak - end) * (1 + math.cos(math.pi * fraction)) / 2


def cosine_with_restarts(step, *, peak, end, first, factor, peak_factor=1.0):
    """The learning rate of step 0, 1, 2, ...: half a cosine down, and back to the top.

    Step n of a period of T steps has the rate

        end + (peak - end) * (1 + cos(pi * n / T)) / 2

    The first period is `first` steps long, each other one `factor` times the one before, and its
    peak `peak_factor` times the last. Source: Loshchilov and Hutter (2017), arXiv:1608.03983,
    equation 5 and section 3.
    """
    period = first
    while step >= period:
        step, period, peak = step - period, period * factor, peak * peak_factor
    return end + (peak - end) * (1 + math.cos(math.pi * step / period)) / 2


def between_corners(step, corners, *, cosine):
    """The learning rate of a step of a path through the `corners`, pairs (step, rate) in order.

    Between two corners it follows half a cosine if `cosine`, else a straight line. Raises
    ValueError for a step beyond the last corner. Source: Smith and Topin (2018), arXiv:1708.07120.
    """
    for (begin, first), (end, last) in zip(corners, corners[1:], strict=False):
        if begin <= step <= end:
            fraction = (step - begin) / (end - begin)
            if cosine:
                fraction = (1 - math.cos(math.pi * fraction)) / 2
            return first + (last - first) * fraction
    raise ValueError(f"step {step} is on no path from {corners[0][0]} to {corners[-1][0]}")
