"""The schedule of a run in steps: input sizes, learning rate, and the order of pictures."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lspdmobile.errors import BadInputError
from lspdmobile.train.config import TrainConfig

__all__ = ["Schedule"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What happens when.

    Attributes:
        config: The run.
        pictures: Size of the train set, at least a batch.
    """

    config: TrainConfig
    pictures: int

    def __post_init__(self) -> None:
        """Refuse a train set under one batch.

        Raises:
            BadInputError: It is one.
        """
        if self.per_epoch == 0:
            message = f"{self.pictures} training pictures are fewer than one batch of {self.config.batch_size}"
            raise BadInputError(message)

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.pictures // self.config.batch_size

    @property
    def sizes(self) -> tuple[int, ...]:
        """Input size of every epoch."""
        return tuple(phase.size for phase in self.config.phases for _ in range(phase.epochs))

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.per_epoch * len(self.sizes)

    def size_at(self, step: int) -> int:
        """Give the input size of a step, from 0."""
        return self.sizes[step // self.per_epoch]

    def batches(self, done: int) -> Iterator[Any]:
        """Give the picture indices of every step not yet done; each epoch's order depends on (seed, epoch) alone."""
        size = self.config.batch_size
        for epoch in range(done // self.per_epoch, len(self.sizes)):
            order = np.random.default_rng((self.config.seed, epoch)).permutation(self.pictures)
            first = done - epoch * self.per_epoch if epoch == done // self.per_epoch else 0
            for i in range(first, self.per_epoch):
                yield order[i * size : (i + 1) * size]

    def learning_rate(self, step: int) -> float:
        """Give the rate of a step: linear warm-up, then cosine to zero or steps of 1/10 at 70 % and 90 %."""
        return self.config.learning_rate * self._share(step / self.total)

    def _share(self, done: float) -> float:
        warmup = self.config.warmup
        if done < warmup:
            return 0.04 + 0.96 * done / warmup
        if self.config.schedule == "step":
            return 1.0 if done < 0.7 else 0.1 if done < 0.9 else 0.01
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))

    def validates(self, step: int) -> bool:
        """Tell whether the run validates after so many steps."""
        epoch, rest = divmod(step, self.per_epoch)
        return rest == 0 and (epoch % self.config.validate_every == 0 or step == self.total)
