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
