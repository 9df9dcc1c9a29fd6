"""The Lightning data module: batches in an order that the seed and the data alone decide."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytorch_lightning as pl

from lab.data.packing import NOTHING, Batch, Packing, Rows
from lab.data.store import Prepared
from lab.errors import RequestError


class DataModule(pl.LightningDataModule):
    """Gives each rank its share of every optimizer step, endlessly, and the validation rows once.

    The stream of training rows is one random permutation of them after the other, drawn from the seed and the
    epoch's number. Step `k` takes the rows from `k * rows` on, whatever the model, the ranks or the
    micro-batches.

    Args:
        prepared: the text.
        packing: how documents are laid into rows.
        context: tokens in a row.
        rows: rows of an optimizer step, over all ranks and micro-batches.
        accumulate: micro-batches of an optimizer step.
        seed: of the order.

    Attributes:
        consumed: micro-batches that this rank has trained on. The trainer's callback counts it up after each,
            since Lightning fetches ahead; the position that is saved and continued from.

    Raises:
        RequestError: the rows can't be shared equally, or there are too few.
    """

    def __init__(
        self,
        prepared: Prepared,
        packing: Packing,
        context: int,
        rows: int,
        accumulate: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if rows < 1 or accumulate < 1 or rows % accumulate:
            raise RequestError(f"batch.rows={rows}: must be a multiple of batch.accumulate={accumulate}")
        self.train_rows: Rows = packing.rows(prepared.train, context, training=True)
        self.validation_rows: Rows = packing.rows(prepared.validation, context, training=False)
        if len(self.train_rows) < rows:
            raise RequestError(
                f"batch.rows={rows}: the training text of {len(prepared.train.ids):,} tokens gives "
                f"{len(self.train_rows)} rows of model.context={context}, too few to fill one batch; "
                "give more text, or lower one of the two"
            )
        self.prepared, self.context, self.rows, self.accumulate, self.seed = (
            prepared,
            context,
            rows,
            accumulate,
            seed,
        )
        self.consumed = 0
        self._permutation = lru_cache(maxsize=2)(self._draw)

    def step_rows(self, step: int) -> np.ndarray:
        """`[rows]`, which training rows an optimizer step takes."""
        stream = np.arange(step * self.rows, (step + 1) * self.rows)
        epochs, places = np.divmod(stream, len(self.train_rows))
        return np.concatenate([self._permutation(int(e))[places[epochs == e]] for e in np.unique(epochs)])

    def training_batch(self, micro: int) -> Batch:
        """The micro-batch with this number, counted from the beginning of the training, for this rank."""
        step, part = divmod(micro, self.accumulate)
        rank, world = self._share()
        indices = self.step_rows(step)
        mine = indices.reshape(self.accumulate, world, -1)[part, rank]
        return self.train_rows.batch(mine, scored=self.train_rows.scored(indices))

    def train_dataloader(self) -> Endless:
        """Micro-batches for this rank, from the first that is not consumed on, without an end."""
        self._share()
        return Endless(self)

    def val_dataloader(self) -> Validation:
        """Validation batches for this rank: row `i` is on rank `i % world`; all ranks have equally many."""
        rank, world = self._share()
        return Validation(self.validation_rows, rank, world, self.rows // (self.accumulate * world))

    def state_dict(self) -> dict[str, int]:
        """The position in the data, and what it counts."""
        return self._counted() | {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continues with the batch that follows.

        Raises:
            RequestError: the position counts other rows than there are here.
        """
        for name, value in self._counted().items():
            if state_dict.get(name) != value:
                raise RequestError(f"resume: the data is another: {name} was {state_dict.get(name)} and is {value}")
        self.consumed = state_dict["consumed"]

    def _counted(self) -> dict[str, int]:
        return {
            "training rows": len(self.train_rows),
            "batch.rows": self.rows,
            "batch.accumulate": self.accumulate,
            "seed": self.seed,
        }

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.train_rows))

    def _share(self) -> tuple[int, int]:
        """The number of this rank, and how many there are."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if self.rows % (self.accumulate * world):
            raise RequestError(
                f"batch.rows={self.rows}: must be a multiple of batch.accumulate={self.accumulate} "
                f"times the {world} devices of the trainer"
            )
        return rank, world


class Endless:
    """A data module's training batches, from its position on."""

    def __init__(self, module: DataModule) -> None:
        self.module = module

    def __iter__(self) -> Iterator[Batch]:
        micro = self.module.consumed
        while True:
            yield self.module.training_batch(micro)
            micro += 1


class Validation:
    """A rank's share of the validation rows, in batches.

    A rank that has no rows left where others do gives a batch that scores nothing: all make the same calls.
    """

    def __init__(self, rows: Rows, rank: int, world: int, size: int) -> None:
        self.rows, self.rank, self.world, self.size = rows, rank, world, size

    def __len__(self) -> int:
        most = -(-len(self.rows) // self.world)
        return -(-most // self.size)

    def __iter__(self) -> Iterator[Batch]:
        mine = np.arange(self.rank, len(self.rows), self.world)
        for number in range(len(self)):
            indices = mine[number * self.size : (number + 1) * self.size]
            if len(indices):
                yield self.rows.batch(indices)
            else:
                spare = self.rows.batch(np.array([0]))
                spare.targets.fill_(NOTHING)
                yield Batch(spare.tokens, spare.targets, spare.layout, scored=0, counted=0, lengths=np.zeros(0, int))
