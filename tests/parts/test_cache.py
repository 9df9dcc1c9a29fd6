"""The layout of the tokens that a cache takes one after the other, beside that of the whole row."""

from unittest.mock import patch

import pytest
import torch

from lab import build, compose
from lab.parts.cache import Cache, left_padded


@pytest.mark.parametrize("ahead", [1, 3, 40])
@torch.no_grad()
def test_tokens_are_laid_out_ahead_without_a_difference(ahead):
    model = build(compose("preset=tiny", "position=rope", "pattern=alternating", "model.window=5"), 300).double().eval()
    tokens = torch.randint(300, (2, 20), generator=torch.Generator().manual_seed(0))
    whole = model.hidden(tokens, left_padded([20, 18]))
    cache = model.new_cache(2, 20)
    with patch.object(Cache, "ahead", ahead):
        model.hidden(tokens[:, :4], left_padded([4, 2]), cache)
        for start, stop in [(4, 5), (5, 6), (6, 10), *((t, t + 1) for t in range(10, 20))]:
            found = model.hidden(tokens[:, start:stop], cache=cache)
            torch.testing.assert_close(found, whole[:, start:stop])
            assert cache.layout.span == stop
