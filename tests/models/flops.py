"""FLOPs as torch counts them, with attention written out: torch counts nothing for the fused kernel of the CPU."""

from collections.abc import Callable
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

from lab.parts import attention, latent


def explicit(query, key, value, *_):
    """All pairs, one softmax."""
    repeats = query.shape[2] // key.shape[2]
    q, k, v = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    return ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2)


def counted(work: Callable) -> int:
    """FLOPs of what is called, with two-sided attention over all pairs."""
    with patch.object(attention, "attend", explicit), patch.object(latent, "attend", explicit), torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops()
