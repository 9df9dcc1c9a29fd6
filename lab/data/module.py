"""The Lightning data module: batches in an order that the seed and the data alone decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytorch_lightning as pl

from lab.data.arrange import Answers, Arranged, Sequences, Sides, Tags
from lab.data.chat import Turns
from lab.data.corpora import Corpus
from lab.data.examples import ExampleData
from lab.data.joined import Joined
from lab.data.masking import Masking, PairedBatch
from lab.data.packing import Batch, Laid, Packing
from lab.data.split import Split
from lab.data.store import Prepared, prepare
from lab.data.tasks import Task, TaskRows
from lab.data.tokenizers import Recipe
from lab.errors import RequestError

TEXT = "text"
ARRANGEMENTS: dict[str, type[Arranged]] = {"pairs": Sides, "labelled": Sequences, "tagged": Tags, "chat": Turns}
"""How the examples of a kind are laid into rows, unless an objective says otherwise."""


def kind(data: Corpus | ExampleData | Task) -> str:
    """What an objective has to take: `text`, `task`, or one of the kinds of examples."""
    return getattr(data, "kind", TEXT)


def make_batches(
    data: Corpus | ExampleData | Task,
    recipe: Recipe,
    split: Split | Mapping,
    packing: Packing,
    context: int,
    rows: int,
    accumulate: int = 1,
    seed: int = 0,
    arrange: Callable[..., Any] | None = None,
) -> Batches:
    """The batches of any kind of data.

    Args:
        data: where it comes from.
        recipe: of the tokenizer; a task brings its own.
        split: what is held out; a task knows by itself.
        packing: how plain text is laid into rows, and whether prompts with their answers share rows.
        context, rows, accumulate, seed: as `Batches`.
        arrange: how examples are laid into rows; by default as their kind is.

    Raises:
        RequestError: data that can't be read, split, or fill one batch.
    """
    sizes = (context, rows, accumulate, seed)
    if isinstance(data, Task):
        rows_of = arrange or TaskRows
        parts = rows_of(data.drawn(True)), rows_of(data.drawn(False))
        return Batches(data.prepared(*parts), *parts, *sizes)
    prepared = prepare(data, recipe, split)
    if not isinstance(data, ExampleData):
        return (arrange or DataModule)(prepared, packing, *sizes)
    arranged = arrange or ARRANGEMENTS[data.kind]
    train, validation = (arranged(prepared, part, context, data.too_long) for part in ("train", "validation"))
    if packing.joins and isinstance(train, Answers) and isinstance(validation, Answers):
        return JoinedModule(prepared, Joined(train), Joined(validation), *sizes)
    return ExampleModule(prepared, train, validation, *sizes)


class Batches(pl.LightningDataModule):
    """Gives each rank its share of every optimizer step, endlessly, and the validation rows once.

    The stream of training rows is one random permutation of them after the other, drawn from the seed and the
    epoch's number. Step `k` takes the rows from `k * rows` on, whatever the model, the ranks or the
    micro-batches.

    Args:
        prepared: the text.
        train_rows, validation_rows: what rows hold.
        context: tokens in a row at most.
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
        train_rows: Laid,
        validation_rows: Laid,
        context: int,
        rows: int,
        accumulate: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if rows < 1 or accumulate < 1 or rows % accumulate:
            raise RequestError(f"batch.rows={rows}: must be a multiple of batch.accumulate={accumulate}")
        if len(train_rows) < rows:
            raise RequestError(
                f"batch.rows={rows}: the training text of {len(prepared.train.ids):,} tokens gives "
                f"{len(train_rows)} rows of model.context={context}, too few to fill one batch; "
                "give more text, or lower one of the two"
            )
        self.train_rows, self.validation_rows = train_rows, validation_rows
        self.prepared, self.context, self.rows, self.accumulate, self.seed = (
            prepared,
            context,
            rows,
            accumulate,
            seed,
        )
        self.consumed = 0
        self._permutation = lru_cache(maxsize=2)(self._draw)

    @property
    def facts(self) -> dict[str, float]:
        """What a run's record says of the rows: `waste_share`, the share of their places that is padding; of a task
        `val/seen_share`, the share of the validated answers whose row is trained on.
        """
        found = {"waste_share": self.train_rows.waste}
        if isinstance(self.train_rows, TaskRows) and isinstance(self.validation_rows, TaskRows):
            found["val/seen_share"] = self.train_rows.seen(self.validation_rows)
        return found

    def step_rows(self, step: int) -> np.ndarray:
        """`[rows]`, which training rows an optimizer step takes."""
        stream = np.arange(step * self.rows, (step + 1) * self.rows)
        epochs, places = np.divmod(stream, len(self.train_rows))
        return np.concatenate([self._permutation(int(e))[places[epochs == e]] for e in np.unique(epochs)])

    def rows_at(self, step: int) -> Laid:
        """The training rows as an optimizer step reads them: always the same, unless something in them is drawn anew."""
        return self.train_rows

    def training_batch(self, micro: int) -> Batch:
        """The micro-batch with this number, counted from the beginning of the training, for this rank."""
        step, part = divmod(micro, self.accumulate)
        rank, world = self._share()
        indices = self.step_rows(step)
        mine = indices.reshape(self.accumulate, world, -1)[part, rank]
        rows = self.rows_at(step)
        batch = rows.batch(mine, scored=rows.scored(indices))
        return replace(batch, read=rows.read(indices))

    def train_dataloader(self) -> Endless:
        """Micro-batches for this rank, from the first that is not consumed on, without an end."""
        self._share()
        return Endless(self)

    def val_dataloader(self) -> Validation:
        """Validation batches for this rank: row `i` is on rank `i % world`; all ranks have equally many."""
        rank, world = self._share()
        return Validation(
            self.validation_rows, self._validation_order(), rank, world, self.rows // (self.accumulate * world)
        )

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

    def _validation_order(self) -> np.ndarray:
        return np.arange(len(self.validation_rows))

    def _share(self) -> tuple[int, int]:
        """The number of this rank, and how many there are."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if self.rows % (self.accumulate * world):
            raise RequestError(
                f"batch.rows={self.rows}: must be a multiple of batch.accumulate={self.accumulate} "
                f"times the {world} devices of the trainer"
            )
        return rank, world


class DataModule(Batches):
    """Batches of plain text, whose documents a packing lays into rows of `context` tokens. Arguments as `Batches`."""

    def __init__(
        self,
        prepared: Prepared,
        packing: Packing,
        context: int,
        rows: int,
        accumulate: int = 1,
        seed: int = 0,
    ) -> None:
        train, validation = (self.laid(prepared, packing, context, seed, training) for training in (True, False))
        super().__init__(prepared, train, validation, context, rows, accumulate, seed)

    def laid(self, prepared: Prepared, packing: Packing, context: int, seed: int, training: bool) -> Laid:
        """The rows of a part; what is validated does not depend on the seed."""
        return packing.rows(prepared.train if training else prepared.validation, context, training)


class MaskedModule(DataModule):
    """Batches of plain text with tokens hidden, others at every step where the masking says so. Arguments as `DataModule`."""

    train_rows: Any

    def __init__(self, *text, masking: Masking, **sizes) -> None:
        self.masking = masking
        super().__init__(*text, **sizes)

    def laid(self, prepared: Prepared, packing: Packing, context: int, seed: int, training: bool) -> Laid:
        return self.masking.rows(prepared, "train" if training else "validation", packing, context, seed)

    def rows_at(self, step: int) -> Laid:
        return self.train_rows.at(step)

    def training_batch(self, micro: int) -> Batch:
        batch = super().training_batch(micro)
        return replace(batch, pairs=self.rows) if isinstance(batch, PairedBatch) else batch


class ExampleModule(Batches):
    """Batches of examples of like length, so that little of them is padding.

    Each epoch draws a random permutation of the examples, leaves out the last that fill no step, sorts the others by
    their lengths, cuts them into steps and shuffles the steps. All that depends on the seed, the epoch and the lengths.
    Arguments as `Batches`.
    """

    train_rows: Arranged
    validation_rows: Arranged

    def step_rows(self, step: int) -> np.ndarray:
        """`[rows]`, which examples an optimizer step takes."""
        epoch, place = divmod(step, len(self.train_rows) // self.rows)
        return self._permutation(epoch)[place]

    @property
    def facts(self) -> dict[str, float]:
        """`waste_share`, the share of the places that is padding in the first epoch; examples cut, in each part."""
        lengths = self.train_rows.lengths[self._permutation(0).reshape(-1, self.rows // self.accumulate)]
        places = lengths.max(axis=1).sum() * lengths.shape[1]
        return {
            "waste_share": 1 - float(lengths.sum() / places),
            "train/cut_examples": self.train_rows.cut,
            "val/cut_examples": self.validation_rows.cut,
        }

    def _draw(self, epoch: int) -> np.ndarray:
        """`[steps, rows]`."""
        random = np.random.default_rng([self.seed, epoch])
        steps = len(self.train_rows) // self.rows
        drawn = random.permutation(len(self.train_rows))[: steps * self.rows]
        ordered = drawn[np.lexsort(self.train_rows.lengths[drawn].T)]
        return random.permutation(ordered.reshape(steps, self.rows))

    def _validation_order(self) -> np.ndarray:
        return np.lexsort(self.validation_rows.lengths.T)


class JoinedModule(Batches):
    """Batches of rows that hold several examples each. Arguments as `Batches`."""

    train_rows: Joined
    validation_rows: Joined

    @property
    def facts(self) -> dict[str, float]:
        """`waste_share`, and examples cut, in each part."""
        return super().facts | {
            "train/cut_examples": self.train_rows.cut,
            "val/cut_examples": self.validation_rows.cut,
        }


class Endless:
    """A data module's training batches, from its position on."""

    def __init__(self, module: Batches) -> None:
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

    def __init__(self, rows: Laid, order: np.ndarray, rank: int, world: int, size: int) -> None:
        self.rows, self.order, self.rank, self.world, self.size = rows, order, rank, world, size

    def __len__(self) -> int:
        most = -(-len(self.rows) // self.world)
        return -(-most // self.size)

    def __iter__(self) -> Iterator[Batch]:
        mine = self.order[self.rank :: self.world]
        for number in range(len(self)):
            indices = mine[number * self.size : (number + 1) * self.size]
            yield self.rows.batch(indices) if len(indices) else self.rows.batch(self.order[:1]).emptied()
