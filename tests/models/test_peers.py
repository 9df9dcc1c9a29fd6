"""The same weights give the same numbers as Hugging Face's implementations."""

import pytest
import torch

import lab

transformers = pytest.importorskip("transformers")

SIZES = (
    "model.dim=32",
    "model.layers=2",
    "model.heads=4",
    "model.inner=48",
    "model.context=16",
    "model.dropout=0",
)


def compare(ours, theirs, tokens):
    ours.eval(), theirs.eval()
    mine, reference = ours(tokens), theirs(tokens).logits
    assert torch.allclose(mine, reference, atol=1e-5 * reference.abs().max().item())
    loss = theirs(tokens, labels=tokens).loss
    targets = torch.full_like(tokens, -100)
    targets[:, :-1] = tokens[:, 1:]
    assert ours.loss(tokens, targets).item() == pytest.approx(loss.item(), rel=1e-5)


def test_gpt2():
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_inner=48, n_positions=16,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config)
    ours = lab.build(lab.compose("preset=gpt2_like", *SIZES, "ffn.activation=gelu_tanh"), vocab_size=50)
    state = {}
    for name, value in theirs.transformer.state_dict().items():
        parts = name.split(".")
        matrix = parts[-1] == "weight" and parts[-2].startswith("c_")
        state[name] = value.T if matrix else value
    renamed = {
        "wte": "embedding.table", "wpe": "position.table", "ln_f": "norm", "h.": "blocks.", "ln_1": "attention_norm",
        "ln_2": "ffn_norm", "attn.c_attn": "attention.project", "attn.c_proj": "attention.output",
        "mlp.c_fc": "ffn.up", "mlp.c_proj": "ffn.down",
    }  # fmt: skip
    mapped = {}
    for name, value in state.items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        mapped[name] = value
    ours.load_state_dict(mapped)
    compare(ours, theirs, torch.randint(50, (2, 16)))


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 5])
def test_llama_and_mistral(kv_heads, window):
    sizes = {
        "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": kv_heads, "intermediate_size": 48, "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    }  # fmt: skip
    if window is None:
        theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    else:
        theirs = transformers.MistralForCausalLM(transformers.MistralConfig(**sizes, sliding_window=window))
    attention = {4: "mha", 2: "gqa", 1: "mqa"}[kv_heads]
    pattern = ["pattern=full"] if window is None else ["pattern=sliding", f"model.window={window}"]
    config = lab.compose("preset=llm_2024", *SIZES, f"attention={attention}", "ffn=gated_wide", *pattern)
    ours = lab.build(config, vocab_size=50)
    state = theirs.state_dict()
    mapped = {
        "embedding.table.weight": state["model.embed_tokens.weight"],
        "embedding.head.weight": state["lm_head.weight"],
        "norm.weight": state["model.norm.weight"],
    }
    for i in range(2):
        theirs_at, ours_at = f"model.layers.{i}.", f"blocks.{i}."

        def merged(names, at=theirs_at):
            return torch.cat([state[f"{at}{name}.weight"] for name in names])

        mapped |= {
            f"{ours_at}attention_norm.weight": merged(["input_layernorm"]),
            f"{ours_at}ffn_norm.weight": merged(["post_attention_layernorm"]),
            f"{ours_at}attention.project.weight": merged([f"self_attn.{n}_proj" for n in "qkv"]),
            f"{ours_at}attention.output.weight": merged(["self_attn.o_proj"]),
            f"{ours_at}ffn.project.weight": merged(["mlp.gate_proj", "mlp.up_proj"]),
            f"{ours_at}ffn.down.weight": merged(["mlp.down_proj"]),
        }
    ours.load_state_dict(mapped)
    compare(ours, theirs, torch.randint(50, (2, 16)))
