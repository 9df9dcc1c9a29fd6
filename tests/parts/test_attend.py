"""Attention by every way that `kernels.py` may choose, against a softmax over the pairs that are seen."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask

from lab.layout import Layout
from lab.parts import explicit, kernels
from lab.parts.explicit import PLAIN, Scoring, explicit_attention
from lab.parts.flex import mask_of
from lab.parts.kernels import attend
from lab.parts.short import short_attention
from lab.parts.tiled import Piece, pieces, tiled_attention
from lab.parts.visibility import Fixed, Full, Sliding, Strided, Visibility
from tests.parts.test_visibility import Dilated, patterns, rows, slow

layouts = st.one_of(st.tuples(st.just(True), st.just([[9], [9]])), st.tuples(st.just(False), rows))
sinks = st.booleans()


def expected(query, key, value, seen, sink=None, softcap=None, bias=0.0, scale=None):
    """The equation, all pairs at once: `[batch, queries, heads, width]` and `seen` `[batch, queries, keys]`."""
    repeats = query.shape[2] // key.shape[2]
    key, value = key.repeat_interleave(repeats, 2), value.repeat_interleave(repeats, 2)
    scores = torch.einsum("bihd,bjhd->bhij", query, key) * (scale or query.shape[-1] ** -0.5)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    weights = (scores + bias).exp() * seen.unsqueeze(1)
    total = weights.sum(-1, keepdim=True)
    if sink is not None:
        total = total + sink.exp().view(1, -1, 1, 1)
    return torch.einsum("bhij,bjhd->bihd", weights / (total + (total == 0)), value)


def tensors(layout, heads=4, kv_heads=2, width=8, value_width=8):
    generator = torch.Generator().manual_seed(0)
    batch, time = layout.documents.shape
    shapes = (heads, width), (kv_heads, width), (kv_heads, value_width)
    drawn = [torch.randn(batch, time, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [x.requires_grad_() for x in drawn]


def document_by_document(query, key, value, layout, visibility, sink):
    batch, time = layout.documents.shape
    documents = [(slice(row, row + 1), a, b) for row, a, b in layout.segments]
    plan = pieces(visibility, [(slice(0, batch), 0, time)] if layout.plain else documents)
    return _tiled(query, key, value, sink, plan)


def all_rows_under_a_mask(query, key, value, layout, visibility, sink):
    plan = [Piece(slice(0, None), tile, first=True) for tile in kernels._blocks(layout, visibility)]
    return _tiled(query, key, value, sink, plan)


def written_out(query, key, value, layout, visibility, sink):
    if sink is not None:  # the fused kernel's
        return all_rows_under_a_mask(query, key, value, layout, visibility, sink)
    with patch.object(kernels, "BLOCK", 2):
        plan = kernels._blocks(layout, visibility)
    return short_attention(query, key, value, plan, query.shape[-1] ** -0.5)


def explicitly(query, key, value, layout, visibility, sink):
    return explicit_attention(query, key, value, layout, visibility, Scoring(sink=sink))


def as_chosen(query, key, value, layout, visibility, sink):
    return attend(query, key, value, layout, visibility, Scoring(sink=sink))


def _tiled(query, key, value, sink, plan):
    groups = query.shape[2] // key.shape[2]
    key, value = key.repeat_interleave(groups, 2), value.repeat_interleave(groups, 2)
    return tiled_attention(query, key, value, sink, plan, query.shape[-1] ** -0.5)


@pytest.mark.parametrize("way", [as_chosen, document_by_document, all_rows_under_a_mask, written_out, explicitly])
@settings(max_examples=60)
@given(patterns, layouts, sinks)
def test_output_and_gradients_are_those_of_the_equation(way, pattern, drawn, with_sink):
    plain, lengths = drawn
    layout = Layout.full(2, 9) if plain else Layout.packed(lengths)
    query, key, value = tensors(layout)
    sink = torch.randn(4, dtype=torch.float64).requires_grad_() if with_sink else None
    inputs = [x for x in (query, key, value, sink) if x is not None]
    seen = torch.from_numpy(slow(pattern, lengths, layout.documents.shape[1])).double()
    real = ~layout.padding
    wanted = expected(query, key, value, seen, sink)[real]
    got = way(query, key, value, layout, pattern, sink)
    assert got.isfinite().all()
    assert torch.allclose(got[real], wanted, atol=1e-9)
    upstream = torch.randn_like(wanted)
    ours = torch.autograd.grad(got[real], inputs, upstream)
    theirs = torch.autograd.grad(wanted, inputs, upstream)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-9)


@pytest.mark.parametrize(
    "pattern", [Full(), Sliding(70), Strided(30, 40), Fixed(48), Strided(5, 3, causal=False), Dilated(3)]
)
@pytest.mark.parametrize("lengths", [[[300]], [[40, 120, 140], [299, 1]]])
def test_long_rows_are_the_same_in_single_precision(pattern, lengths):
    layout = Layout.packed(lengths)
    query, key, value = (x.detach().float() for x in tensors(layout))
    seen = pattern.sees(layout, layout)
    assert torch.allclose(attend(query, key, value, layout, pattern), expected(query, key, value, seen), atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "time", "scoring", "pattern", "dtype", "written"),
    [
        (8, 200, PLAIN, Full(), torch.float32, True),
        (8, 200, PLAIN, Sliding(20, causal=False), torch.float32, True),
        (1, 20, PLAIN, Full(), torch.float32, False),
        (8, 200, PLAIN, Full(causal=False), torch.float32, False),
        (8, 200, PLAIN, Full(), torch.bfloat16, False),
        (8, 200, Scoring(sink=torch.zeros(4)), Full(), torch.float32, False),
        (8, 600, PLAIN, Full(), torch.float32, False),
    ],
)
def test_many_short_rows_are_written_out(batch, time, scoring, pattern, dtype, written):
    layout = Layout.full(batch, time)
    query, key, value = (x.detach().to(dtype).requires_grad_() for x in tensors(layout))
    with patch.object(kernels, "short_attention", wraps=short_attention) as short:
        got = attend(query, key, value, layout, pattern, scoring)
    assert short.called == written
    if scoring.sink is None:
        wanted = expected(query.double(), key.double(), value.double(), pattern.sees(layout, layout))
        upstream = torch.randn(got.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        close = 1e-5 if dtype == torch.float32 else 0.05
        assert torch.allclose(got.double(), wanted, atol=close)
        ours = torch.autograd.grad(got, (query, key, value), upstream)
        for mine, other in zip(ours, torch.autograd.grad(wanted, (query, key, value), upstream.double()), strict=True):
            assert torch.allclose(mine.double(), other.double(), atol=10 * close)


def test_rows_that_are_not_written_out_are_not_priced_so():
    """Of two documents in a row a fused kernel computes each by itself sooner than all rows under a mask."""
    layout = Layout.packed([[256, 256]] * 8)
    assert not kernels._plan(layout, Full(), heads=4, short=False).together
    assert kernels._plan(layout, Full(), heads=4, short=True).together


@pytest.mark.parametrize("way", [attend, explicit_attention])
@pytest.mark.parametrize("block", [2, 128])
@given(pattern=patterns, lengths=rows)
@settings(max_examples=30)
def test_soft_caps_scales_and_biases(way, block, pattern, lengths):
    layout = Layout.packed(lengths)
    query, key, value = tensors(layout)
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def bias(queries, keys):
        return weight * (queries.positions.unsqueeze(2) - keys.positions.unsqueeze(1)).unsqueeze(1)

    with patch.object(explicit, "QUERIES", block), patch.object(kernels, "BLOCK", block):
        got = way(query, key, value, layout, pattern, Scoring(scale=0.7, softcap=2.0, bias=bias))
        real = ~layout.padding
        ours = torch.autograd.grad(got[real].square().sum(), (query, key, value, weight))
    seen = torch.from_numpy(slow(pattern, lengths, layout.documents.shape[1])).double()
    wanted = expected(query, key, value, seen, softcap=2.0, bias=bias(layout, layout), scale=0.7)[real]
    assert torch.allclose(got[real], wanted, atol=1e-9)
    for mine, other in zip(ours, torch.autograd.grad(wanted.square().sum(), (query, key, value, weight)), strict=True):
        assert torch.allclose(mine, other, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 70, 70), (70, 70), (2, 1, 70, 1), (1, 4, 1, 70)])
@pytest.mark.parametrize("way", [attend, explicit_attention])
def test_a_bias_is_broadcast(way, shape):
    layout = Layout.full(2, 70)
    query, key, value = tensors(layout)
    bias = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    wanted = expected(query, key, value, Full().sees(layout, layout), bias=bias)

    with patch.object(explicit, "QUERIES", 70):  # so that both ask for the whole row
        got = way(query, key, value, layout, Full(), Scoring(bias=lambda queries, keys: bias))
    assert torch.allclose(got, wanted, atol=1e-9)
    for mine, other in zip(
        torch.autograd.grad(got.square().sum(), (query, bias)),
        torch.autograd.grad(wanted.square().sum(), (query, bias)),
        strict=True,
    ):
        assert torch.allclose(mine, other, atol=1e-9)


@pytest.mark.parametrize(
    ("scoring", "values"),
    [
        (PLAIN, torch.float32),
        (Scoring(softcap=2.0), torch.float32),
        (Scoring(softcap=2.0), torch.bfloat16),
        (Scoring(bias=lambda *_: torch.zeros(4, 1, 1)), torch.bfloat16),
    ],
)
def test_mixed_precision_has_a_gradient(scoring, values):
    layout = Layout.full(8, 80)
    precisions = torch.float32, torch.float32, values
    inputs = [x.detach().to(dtype).requires_grad_() for x, dtype in zip(tensors(layout), precisions, strict=True)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = attend(*inputs, layout, Full(), scoring)
    assert all(x.isfinite().all() for x in torch.autograd.grad(got.float().sum(), inputs))


@pytest.mark.parametrize("scoring", [PLAIN, Scoring(softcap=2.0, dropout=0.1)])
def test_no_rows_give_none(scoring):
    layout = Layout.full(0, 100)
    inputs = tensors(layout)
    got = attend(*inputs, layout, Full(), scoring)
    assert got.shape == (0, 100, 4, 8)
    assert all(x.shape == y.shape for x, y in zip(torch.autograd.grad(got.sum(), inputs), inputs, strict=True))


def test_what_was_dropped_is_dropped_from_gradients():
    layout = Layout.full(2, 6)
    bias = torch.randn(1, 4, 6, 6, dtype=torch.float64, requires_grad=True)

    def drawn(query, key, value, bias):
        torch.manual_seed(0)
        scoring = Scoring(softcap=2.0, bias=lambda queries, keys: bias, dropout=0.5)
        with patch.object(kernels, "BLOCK", 2):
            return attend(query, key, value, layout, Full(), scoring)

    inputs = (*tensors(layout, value_width=3), bias)
    assert torch.autograd.gradcheck(drawn, inputs)
    assert not torch.allclose(drawn(*inputs), attend(*inputs[:3], layout, Full(), Scoring(softcap=2.0)))


@pytest.mark.parametrize("way", [attend, explicit_attention])
def test_dropout_drops_its_share_and_keeps_the_mean(way):
    layout = Layout.full(1, 64)
    query, key = torch.zeros(2, 1, 64, 1, 4)
    value = torch.ones(1, 64, 1, 4)
    torch.manual_seed(0)
    out = torch.stack([way(query, key, value, layout, Full(causal=False), Scoring(dropout=0.25)) for _ in range(50)])
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    # Of 64 equal weights each is kept with probability 3/4 and scaled by 4/3.
    assert out[..., 0].std().item() == pytest.approx((0.25 / 0.75 / 64) ** 0.5, rel=0.1)


@given(patterns, st.sampled_from([(6, 8), (8, 3)]))
@settings(max_examples=20)
def test_values_of_another_width_than_the_keys(pattern, widths):
    layout = Layout.packed([[5, 4]])
    query, key, value = tensors(layout, width=widths[0], value_width=widths[1])
    seen = pattern.sees(layout, layout)
    assert torch.allclose(attend(query, key, value, layout, pattern), expected(query, key, value, seen), atol=1e-9)


@settings(max_examples=40)
@given(
    batch=st.integers(1, 4),
    past=st.integers(0, 70),
    kv_heads=st.sampled_from([1, 2, 4]),
    groups=st.sampled_from([1, 3]),
    widths=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    scale=st.sampled_from([None, 0.3]),
)
def test_one_query_after_what_a_cache_holds(batch, past, kv_heads, groups, widths, scale):
    """Of many keys it is computed by two products, of few by the fused kernel: beside the equation."""
    generator = torch.Generator().manual_seed(past)
    query = torch.randn(batch, 1, kv_heads * groups, widths[0], generator=generator)
    key, value = (
        torch.randn(batch, kv_heads, past + 5, width, generator=generator).movedim(-2, 1)[:, : past + 1]
        for width in widths
    )
    keys = Layout.full(batch, past + 1)
    last, scoring = keys.part(past, past + 1), Scoring(scale=scale)
    expected = explicit_attention(query, key, value, last, Full(causal=True), scoring, keys)
    for many, products in ((batch * (past + 1), 2), (batch * (past + 1) + 1, 0)):
        with patch.object(kernels, "MANY", many), patch.object(torch, "bmm", wraps=torch.bmm) as product:
            found = attend(query, key, value, last, Full(causal=True), scoring, keys)
        assert product.call_count == products
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Near(Visibility):
    """A pattern of one's own, which depends on more than whole numbers."""

    def __init__(self, layer=0, share=0.5, skipped=()):
        super().__init__(layer=layer)
        self.share, self.skipped = share, skipped


@pytest.mark.parametrize("other", [{"layer": 3}, {"share": 0.8}, {"skipped": [1, 2]}])
def test_patterns_of_ones_own_share_no_mask_unless_they_are_equal(other):
    assert Near().identity == Near().identity != Near(**other).identity
    assert Sliding(3, layer=0).identity == Sliding(3, layer=1).identity != Sliding(4).identity


def test_queries_may_attend_to_other_tokens():
    layout, keys = Layout.packed([[3, 2]]), Layout.packed([[2, 4]])
    query, _, _ = tensors(layout)
    _, key, value = tensors(keys)
    seen = layout.documents.unsqueeze(2) == keys.documents.unsqueeze(1)
    for sink in (None, torch.randn(4, dtype=torch.float64)):
        got = attend(query, key, value, layout, Full(causal=False), Scoring(sink=sink), keys)
        assert torch.allclose(got, expected(query, key, value, seen, sink), atol=1e-9)


@given(patterns, layouts)
@settings(max_examples=30)
def test_flexattention_is_asked_for_what_is_seen(pattern, drawn):
    plain, lengths = drawn
    layout = Layout.full(2, 9) if plain else Layout.packed(lengths)
    batch, time = layout.documents.shape
    asked = create_mask(mask_of(layout, pattern), batch, None, time, time, device="cpu")
    assert torch.equal(asked.squeeze(1), pattern.sees(layout, layout))


@pytest.mark.gpu
@pytest.mark.parametrize("pattern", [Full(), Sliding(70), Strided(30, 40), Fixed(48), Full(causal=False), Dilated(3)])
@pytest.mark.parametrize("lengths", [[[300], [300]], [[40, 120, 140], [299]]])
def test_cuda_gives_output_and_gradients_of_the_equation(pattern, lengths):
    layout = Layout.packed(lengths)
    drawn = tensors(layout, width=32, value_width=32)
    seen = pattern.sees(layout, layout)
    real = ~layout.padding
    wanted = expected(*drawn, seen)[real]
    upstream = torch.randn_like(wanted)
    theirs = torch.autograd.grad(wanted, drawn, upstream)
    there = [x.detach().float().cuda().requires_grad_() for x in drawn]
    got = attend(*there, layout.to("cuda"), pattern)[real.cuda()]
    assert torch.allclose(got.cpu().double(), wanted, atol=1e-3)
    for mine, other in zip(torch.autograd.grad(got, there, upstream.float().cuda()), theirs, strict=True):
        assert torch.allclose(mine.cpu().double(), other, atol=5e-3)
