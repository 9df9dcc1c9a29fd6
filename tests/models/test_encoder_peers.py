"""The same weights give the same numbers as Hugging Face's encoders: layers, the head's scores, gradients, with padding."""

import pytest
import torch

import lab
from lab.config import construct
from lab.layout import Layout

transformers = pytest.importorskip("transformers")

SIZES = ("model.dim=32", "model.layers=2", "model.heads=4", "model.inner=48", "model.context=16", "model.dropout=0")
HERS = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 16, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "attn_implementation": "eager",
}  # fmt: skip
LENGTHS = [13, 7, 1]

BERT = {
    "embeddings.word_embeddings.weight": "embedding.table.weight",
    "embeddings.position_embeddings.weight": "position.table.weight",
    "embeddings.token_type_embeddings.weight": "segments.weight",
    "embeddings.LayerNorm": "embedding.norm",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "ffn.up",
    "output.dense": "ffn.down",
    "output.LayerNorm": "ffn_norm",
    "attention.self": "attention",
    "encoder.layer": "blocks",
    "pooler.dense": "pooler",
}
DISTILBERT = {
    "embeddings.word_embeddings.weight": "embedding.table.weight",
    "embeddings.position_embeddings.weight": "position.table.weight",
    "embeddings.LayerNorm": "embedding.norm",
    "attention.out_lin": "attention.output",
    "sa_layer_norm": "attention_norm",
    "output_layer_norm": "ffn_norm",
    "ffn.lin1": "ffn.up",
    "ffn.lin2": "ffn.down",
    "transformer.layer": "blocks",
    "attention.q_lin": "attention.query",
    "attention.k_lin": "attention.key",
    "attention.v_lin": "attention.value",
    "distilbert.": "",
    "vocab_transform": "embedding.transform",
    "vocab_layer_norm": "embedding.head_norm",
    "vocab_projector.bias": "embedding.bias",
}
HEADS = {
    "bert.": "",
    "cls.predictions.transform.dense": "embedding.transform",
    "cls.predictions.transform.LayerNorm": "embedding.head_norm",
    "cls.predictions.bias": "embedding.bias",
    "cls.predictions.decoder.bias": "embedding.bias",
    "cls.predictions.decoder.weight": "embedding.head.weight",
    "roberta.": "",
    "lm_head.dense": "embedding.transform",
    "lm_head.layer_norm": "embedding.head_norm",
    "lm_head.bias": "embedding.bias",
    "lm_head.decoder.bias": "embedding.bias",
    "lm_head.decoder.weight": "embedding.head.weight",
    "vocab_projector.weight": "embedding.head.weight",
}


def mapped(named, names, ours):
    """Their tensors under our names; queries, keys and values merged. What we don't have is left out."""
    found = {}
    for name, value in named:
        for old, new in names.items():
            name = name.replace(old, new)
        found[name] = value
    for i in range(2):
        for kind in ("weight", "bias"):
            parts = [found[f"blocks.{i}.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            found[f"blocks.{i}.attention.project.{kind}"] = torch.cat(parts)
    return {name: found[name] for name in ours}


def bert(tied):
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(**HERS, tie_word_embeddings=tied, hidden_act="gelu"))
    return theirs, ("preset=bert_base", "model.pooler=false"), BERT | HEADS


def roberta(tied):
    config = transformers.RobertaConfig(
        **HERS | {"max_position_embeddings": 18}, tie_word_embeddings=tied, type_vocab_size=1, pad_token_id=1,
        layer_norm_eps=1e-5,
    )  # fmt: skip
    return transformers.RobertaForMaskedLM(config), ("preset=roberta_base",), BERT | HEADS


def distilbert(tied):
    config = transformers.DistilBertConfig(
        vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=16, dropout=0.0,
        attention_dropout=0.0, tie_word_embeddings=tied, attn_implementation="eager",
    )  # fmt: skip
    return transformers.DistilBertForMaskedLM(config), ("preset=distilbert",), DISTILBERT | HEADS


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", [bert, roberta, distilbert])
def test_layers_scores_and_gradients_are_theirs(family, tied):
    torch.manual_seed(0)
    theirs, words, names = family(tied)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.3)
    config = lab.compose(*words, *SIZES, f"embedding.tied={str(tied).lower()}")
    ours = lab.build(config, vocab_size=50).eval()
    skip = 2 if family is roberta else 0  # rows of its table of positions that no token has

    def cut(pairs):
        return [(n, v[skip:] if "position_embeddings" in n else v) for n, v in pairs]

    ours.load_state_dict(mapped(cut(theirs.state_dict().items()), names, ours.state_dict()))
    theirs.eval()

    tokens = torch.randint(5, 50, (3, 13))
    layout = Layout.packed([[length] for length in LENGTHS], time=13)
    real = ~layout.padding
    tokens[~real] = 1  # what RoBERTa counts no positions for
    segments = (torch.arange(13) >= 4).long().expand(3, -1)
    given = {} if family is distilbert else {"token_type_ids": segments if family is bert else segments * 0}
    expected = theirs(tokens, attention_mask=real.long(), output_hidden_states=True, **given)

    layers = []
    for block in ours.blocks:
        block.register_forward_hook(lambda module, inputs, output: layers.append(output))
    ours.embedding.norm.register_forward_hook(lambda module, inputs, output: layers.append(output))
    vectors = ours.vectors(tokens, layout, segments)
    assert len(layers) == len(expected.hidden_states) == 3
    for mine, reference in zip(layers, expected.hidden_states, strict=True):
        assert close(mine[real], reference[real], 1e-5)
    assert close(ours.embedding.logits(vectors)[real], expected.logits[real], 1e-5)

    targets = torch.where(torch.rand(3, 13) < 0.4, torch.randint(50, (3, 13)), -100).masked_fill(~real, -100)
    asked = targets != -100
    loss = ours.embedding.loss(vectors[asked], targets[asked]) / asked.sum()
    reference = torch.nn.functional.cross_entropy(expected.logits.flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    loss.backward(), reference.backward()
    grads = cut((n, torch.zeros_like(p) if p.grad is None else p.grad) for n, p in theirs.named_parameters())
    of_ours = [name for name, _ in ours.named_parameters()]
    for name, gradient in mapped(grads, names, of_ours).items():
        if not name.endswith("attention.project.bias"):  # that of keys is 0 but for rounding
            assert close(dict(ours.named_parameters())[name].grad, gradient, 1e-4), name


def close(mine, reference, share):
    return (mine - reference).abs().max() <= share * reference.abs().max()


def test_the_row_vector_is_that_of_their_pooler():
    torch.manual_seed(0)
    theirs = transformers.BertModel(transformers.BertConfig(**HERS)).eval()
    ours = lab.build(lab.compose("preset=bert_base", *SIZES), vocab_size=50).eval()
    heads = ("embedding.transform", "embedding.head_norm", "embedding.bias")
    body = [name for name in ours.state_dict() if not name.startswith(heads)]
    ours.load_state_dict(mapped(theirs.state_dict().items(), BERT, body), strict=False)
    tokens = torch.randint(50, (3, 13))
    assert close(ours.pooled(ours.vectors(tokens)), theirs(tokens).pooler_output, 1e-5)


PUBLISHED = {
    "bert_base": (110, lambda: transformers.BertForPreTraining(transformers.BertConfig()), 2 * 769),
    "roberta_base": (
        125,
        lambda: transformers.RobertaForMaskedLM(
            transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
        ),
        2 * 768,
    ),
    "distilbert": (67, lambda: transformers.DistilBertForMaskedLM(transformers.DistilBertConfig()), 0),
}
"""Millions of parameters with the head, which DistilBERT's 66 million leave out; theirs; what is not the model's: a head that
is the objective's, two rows of positions that no token has."""


@pytest.mark.parametrize("preset", PUBLISHED)
def test_presets_have_the_published_sizes(preset):
    millions, make, apart = PUBLISHED[preset]
    config = lab.compose(f"preset={preset}")
    with torch.device("meta"):
        ours = construct(config, "model.build", vocab_size=config.tokenizer.vocab_size)
        theirs = make()
    assert round(ours.parameters_total / 1e6) == millions
    assert ours.parameters_total == sum(p.numel() for p in theirs.parameters()) - apart
    head = sum(p.numel() for m in (ours.embedding.transform, ours.embedding.head_norm) for p in m.parameters())
    bare = ours.parameters_total - head - ours.vocab_size
    assert preset != "distilbert" or round(bare / 1e6) == 66
