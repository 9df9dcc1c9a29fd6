"""Batches come in an order that the seed and the data alone decide, and go on where they stopped."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.data.module import DataModule
from lab.data.packing import Batch, Packed, Padded
from lab.data.store import Prepared, Tokens
from lab.errors import RequestError
from lab.layout import IGNORE
from tests.data.test_packing import made


def prepared(documents: int = 40, held: int = 9) -> Prepared:
    train, validation = made([5 + n % 7 for n in range(documents)]), made([4 + n % 5 for n in range(held)])
    return Prepared(train, validation, None, "print", 100, 0.0, None)  # type: ignore[arg-type]


def module(rows=8, accumulate=1, seed=0, context=6, packing=None, rank=0, world=1, data=None) -> DataModule:
    data = DataModule(data or prepared(), packing or Packed(), context, rows, accumulate, seed)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world)
    return data


def first(data: DataModule, count: int) -> list[Batch]:
    stream = iter(data.train_dataloader())
    return [next(stream) for _ in range(count)]


def same(one: Batch, two: Batch) -> bool:
    return (
        torch.equal(one.tokens, two.tokens)
        and torch.equal(one.targets, two.targets)
        and torch.equal(one.layout.positions, two.layout.positions)
        and one.scored == two.scored
    )


@given(st.integers(1, 13), st.integers(0, 2**31))
def test_every_epoch_takes_each_row_once(rows, seed):
    data = module(rows=rows, seed=seed)
    total = len(data.train_rows)
    stream = np.concatenate([data.step_rows(step) for step in range(3 * total // rows + 1)])
    epochs = [stream[start : start + total] for start in (0, total, 2 * total)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(total))
    assert epochs[0].tolist() != epochs[1].tolist()


def test_the_order_depends_on_the_seed_alone():
    stream = [module(seed=seed).step_rows(5).tolist() for seed in (0, 0, 1)]
    assert stream[0] == stream[1] != stream[2]
    data = module()
    backwards = [data.step_rows(step).tolist() for step in (9, 3, 0)]
    assert backwards == [module().step_rows(step).tolist() for step in (9, 3, 0)]
    state = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    first(module(), 3)
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == state


@pytest.mark.parametrize("packing", [Packed(), Packed(False, False), Padded()])
@pytest.mark.parametrize(("accumulate", "world"), [(1, 2), (2, 1), (2, 4), (4, 2), (8, 1)])
def test_ranks_and_micro_batches_together_are_the_step_of_one_process(packing, accumulate, world):
    whole = first(module(packing=packing), 4)
    shares = [
        first(module(accumulate=accumulate, packing=packing, rank=r, world=world), 4 * accumulate) for r in range(world)
    ]
    for step, batch in enumerate(whole):
        parts = [share[step * accumulate + micro] for micro in range(accumulate) for share in shares]
        assert torch.equal(torch.cat([part.tokens for part in parts]), batch.tokens)
        assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
        assert {part.scored for part in parts} == {batch.scored} == {sum(part.counted for part in parts)}
        assert sum(part.lengths.sum() for part in parts) == batch.lengths.sum()


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("packing", [Packed(), Padded()])
@pytest.mark.parametrize("held", [1, 2, 9, 20])
def test_validation_shows_each_row_once_in_equally_many_batches(world, packing, held):
    data = prepared(held=held)
    ranks = [
        list(module(rows=6, packing=packing, rank=r, world=world, data=data).val_dataloader()) for r in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    assert {
        len(module(rows=6, packing=packing, rank=r, world=world, data=data).val_dataloader()) for r in range(world)
    } == {len(ranks[0])}
    batches = [batch for rank in ranks for batch in rank]
    targets = torch.cat([batch.targets.flatten() for batch in batches])
    wanted = data.validation.ids[data.validation.ids != data.validation.document_id]
    assert sorted(targets[targets != IGNORE].tolist()) == sorted(wanted.tolist())
    assert sum(batch.counted for batch in batches) == sum(batch.scored for batch in batches) == len(wanted)
    assert sum(batch.lengths.sum() for batch in batches) == len(data.validation.ids)


@given(st.integers(0, 40), st.sampled_from([1, 2, 4]))
def test_a_resumed_module_goes_on_with_the_next_batch(consumed, accumulate):
    uninterrupted = first(module(accumulate=accumulate), consumed + 3)
    stopped = module(accumulate=accumulate)
    stopped.consumed = consumed
    resumed = module(accumulate=accumulate)
    resumed.load_state_dict(stopped.state_dict())
    assert all(same(*pair) for pair in zip(first(resumed, 3), uninterrupted[consumed:], strict=True))


class Watch(pl.LightningModule):
    """Trains one number, remembers the batches, and counts what it consumed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Batch] = []
        self.validated = 0

    def training_step(self, batch, index):
        self.seen.append(batch)
        return self.weight * 1.0

    def on_train_batch_end(self, outputs, batch, index):
        self.trainer.datamodule.consumed += 1

    def validation_step(self, batch, index):
        self.validated += batch.counted

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(steps: int, checkpoint=None, accumulate: int = 2) -> tuple[Watch, pl.Trainer]:
    data = DataModule(prepared(), Packed(), 6, 8, accumulate)
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        val_check_interval=3 * accumulate,
        check_val_every_n_epoch=None,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    watch = Watch()
    trainer.fit(watch, datamodule=data, ckpt_path=checkpoint)
    return watch, trainer


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_resumes_with_the_batch_that_follows(tmp_path):
    """Although Lightning fetches one batch ahead."""
    whole, _ = fit(7)
    start, trainer = fit(4)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    rest, _ = fit(7, tmp_path / "stopped.ckpt")
    assert len(start.seen) == 8
    assert len(rest.seen) == 6
    assert all(same(*pair) for pair in zip(whole.seen, start.seen + rest.seen, strict=True))
    held = prepared().validation
    assert whole.validated == 2 * (len(held.ids) - len(held.offsets) + 1)


def test_wrong_shares_and_too_little_text():
    cases = {
        "batch.rows=8: must be a multiple of batch.accumulate=3": lambda: module(accumulate=3),
        "batch.rows=0: ": lambda: module(rows=0),
        "batch.rows=1000: the training text of 315 tokens gives 52 rows of model.context=6": lambda: module(rows=1000),
        "batch.rows=8: .* gives 0 rows of model.context=9999": lambda: module(context=9999),
        "batch.rows=8: .*accumulate=2 times the 3 devices": lambda: module(accumulate=2, world=3).train_dataloader(),
    }
    for message, make in cases.items():
        with pytest.raises(RequestError, match=message):
            make()


def test_a_position_in_other_data_is_refused():
    state = module().state_dict()
    for other in (module(seed=1), module(accumulate=2), module(context=5), module(rows=4)):
        with pytest.raises(RequestError, match="resume: the data is another"):
            other.load_state_dict(state)


def test_a_rank_that_knows_no_trainer_takes_everything():
    data = DataModule(prepared(), Packed(), 6, 8)
    assert first(data, 1)[0].tokens.shape == (8, 6)
    assert isinstance(data.prepared.train, Tokens)
