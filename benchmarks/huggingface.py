"""Published families beside transformers' own classes: a training step, and taking in a checkpoint of a gigabyte."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Finding, finding, main, take_turns
from benchmarks.peers import VOCABULARY
from benchmarks.step import step_of
from lab.huggingface.family import Family, families
from lab.huggingface.incoming import take_in
from lab.huggingface.parity import published

ROWS, TIME = 8, 256
SHAPE = {"width": 256, "layers": 4, "heads": 8, "inner": 1024}
NAMES = {
    "width": ("hidden_size", "n_embd"),
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "inner": ("intermediate_size", "n_inner"),
}
DROPOUTS = ("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop")
GIGABYTE = {
    "vocab_size": 32_000, "hidden_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12,
    "num_key_value_heads": 12, "intermediate_size": 4096, "max_position_embeddings": 512,
}  # fmt: skip
"""Of a Llama whose float32 weights take about that much."""


def shaped(family: Family) -> dict[str, Any]:
    """Fields of a small model of the family, its first variant, at the width that is timed."""
    from transformers import AutoConfig

    known = AutoConfig.for_model(family.model_type).to_dict()
    sizes = {name: size for key, size in SHAPE.items() for name in NAMES[key] if name in known}
    sizes |= dict.fromkeys((name for name in DROPOUTS if name in known), 0.0)
    variant = family.variants[next(iter(family.variants))]
    return {**family.small, **variant, "vocab_size": VOCABULARY, **sizes, _context(known): TIME}


def _context(known: dict[str, Any]) -> str:
    return "n_positions" if "n_positions" in known else "max_position_embeddings"


def steps(name: str, family: Family) -> Finding:
    """Forward and backward, against the class as it comes."""
    with tempfile.TemporaryDirectory() as place:
        peer = published(shaped(family), family.model_type, Path(place, "published"), attention=None).train()
        ours: Any = take_in(Path(place, "published"), Path(place, "run")).model.train()
    tokens = torch.randint(3, VOCABULARY, (ROWS, TIME), generator=torch.Generator().manual_seed(0))
    targets = torch.full_like(tokens, -100)
    targets[:, :-1] = tokens[:, 1:]
    with torch.no_grad():
        torch.testing.assert_close(
            ours.loss(tokens, targets), peer(input_ids=tokens, labels=tokens).loss, rtol=1e-4, atol=0
        )
    turns = take_turns(
        step_of(ours, lambda: ours.loss(tokens, targets)),
        step_of(peer, lambda: peer(input_ids=tokens, labels=tokens).loss),
        pairs=7,
        warm_up=2,
    )
    return finding("huggingface", f"{name}, step: their time / ours", turns.ratios, at_least=1.0, detail=turns.words())


def taking_in() -> list[Finding]:
    """A checkpoint of a gigabyte, against reading and copying it with the same guarantee that it is on the disk."""
    with tempfile.TemporaryDirectory() as place:
        source, copy = Path(place, "published"), Path(place, "copy")
        family = families()["llama"]
        published({**family.small, **GIGABYTE}, family.model_type, source)
        weights = source / "model.safetensors"
        run = Path(place, "run")

        # Each makes a new file and removes it: to write over an old one is cheaper.
        def ours() -> None:
            take_in(source, run)
            shutil.rmtree(run)

        def theirs() -> None:
            shutil.copyfile(weights, copy)
            with copy.open("rb+") as file:
                os.fsync(file.fileno())
            copy.unlink()

        with Memory() as memory:
            ours()
        turns = take_turns(ours, theirs, pairs=5, warm_up=1)
        size = weights.stat().st_size / 1e9
        ratios = [1 / ratio for ratio in turns.ratios]
        words = f"{size:.2f} GB, {turns.words('import', 'copy')}"
        return [
            finding("huggingface", "import / copying its weights", ratios, at_most=1.5, detail=words),
            finding(
                "huggingface",
                "memory that an import takes, GB",
                [memory.grown],
                at_most=0.5,
                detail="private, at its peak",
            ),
        ]


class Memory:
    """The private memory that this process takes on within a `with`, at its peak, in gigabytes; mapped files apart."""

    def __enter__(self) -> Memory:
        self.before = self.peak = _private()
        self._watching = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._watching.wait(0.005):
            self.peak = max(self.peak, _private())

    def __exit__(self, *_: object) -> None:
        self._watching.set()
        self._thread.join()
        self.grown = (self.peak - self.before) / 1e9


def _private() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    return 0


def run() -> list[Finding]:
    """All families, then the checkpoint."""
    return [*(steps(name, family) for name, family in families().items() if family.causal), *taking_in()]


if __name__ == "__main__":
    main(run)
