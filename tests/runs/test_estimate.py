"""How long runs will take: of every family, and of examples as long as they are."""

import json

import pytest
import torch

import lab
from lab.runs import estimate
from lab.runs.estimate import _step, estimate_seconds

WORDS = ("preset=tiny", "tokenizer=byte", "budget.steps=4", "split.max_bytes=1000", "trainer.validations=1",
         "trainer.threads=1", "logger=none")  # fmt: skip


@pytest.fixture
def pairs(tmp_path):
    rows = [{"source": f"{n} and {n}", "target": f"is {2 * n}", "label": str(n % 2)} for n in range(100)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"data.path={tmp_path / 'pairs.jsonl'}"


def examples(pairs):
    return {
        "answers": lab.compose(*WORDS, "data=pairs", pairs),
        "labels": lab.compose(
            *WORDS, "model=encoder", "objective=classify", "data=labelled", "data.text=source", pairs
        ),
        "task": lab.compose(*WORDS, "data=recall", "objective=recall"),
    }


def test_a_run_reads_and_computes_what_was_expected(corpus, pairs, tmp_path):
    configs = examples(pairs) | {"text": lab.compose(*WORDS, "data=files", f"data.path={corpus}", "packing=stream")}
    for name, config in configs.items():
        flops, tokens = _step(config)
        result = lab.train(config, tmp_path / name).result
        assert tokens == pytest.approx(result["tokens_seen"] / 4, rel=0.1), name
        assert 3 * flops == pytest.approx(result["flops"] / 4, rel=0.1), name


def test_every_family_is_timed(pairs):
    for config in examples(pairs).values():
        assert 0 < estimate_seconds([config], {}) < 60
    assert estimate_seconds([config], {lab.config.identity(config): 7.0}) == 7.0


def test_small_and_large_go_at_their_own_speed(monkeypatch):
    configs = [lab.compose(*WORDS, f"model.dim={dim}") for dim in range(16, 176, 16)]
    timed = []

    def of_its_size(config):
        timed.append(config.model.dim)
        return config.model.dim

    monkeypatch.setattr(estimate, "_flops_per_second", of_its_size)
    seconds = [estimate_seconds([config], {}) for config in configs]
    assert timed == [config.model.dim for config in configs]
    timed.clear()
    together = estimate_seconds([*configs, *configs], {})
    assert (len(timed), timed[0], timed[-1]) == (estimate.TIMED, 16, 160)
    assert together == pytest.approx(2 * sum(seconds), rel=0.2)


def test_what_has_no_room_or_no_step_leaves_the_others_and_its_own_failure_to_the_run(monkeypatch):
    small, large = lab.compose(*WORDS), lab.compose(*WORDS, "model.inner=999_936")
    alone = estimate_seconds([small], {})
    monkeypatch.setattr(estimate.machine, "memory", lambda: 1 << 28)
    assert estimate_seconds([large], {}) is None
    assert estimate_seconds([small, large], {}) > alone
    monkeypatch.setattr(estimate, "_timed", lambda *_: 1 / torch.empty(()).view(2))
    assert estimate_seconds([small], {}) is None
    assert estimate_seconds([small], {lab.config.identity(small): 7.0}) == 7.0
