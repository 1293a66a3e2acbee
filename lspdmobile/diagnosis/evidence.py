"""What a diagnosis goes by: an artifact's heatmaps and its float student's, on the same pictures.

n is pictures, K joints, h and w rows and columns of a heatmap. A hypothesis is judged by how much of the difference is
gone when the float student is made to commit it: ``1 - |b - c|^2 / |b - a|^2`` with a the student's heatmaps, b the
artifact's and c those of the student under the hypothesis.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lspdmobile.choices import Cause
from lspdmobile.decode import HEATMAP_RULES, DecodeRule, decode
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import Skeleton

__all__ = ["Candidate", "Evidence", "Maps"]

Maps = NDArray[np.float32]
_BATCH: Final = 8


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One hypothesis carried out.

    Attributes:
        cause: Its kind.
        sentence: What would be wrong, for somebody who has to mend it.
        maps: Heatmaps ``[n, K, h, w]`` that the float student gives under it.
    """

    cause: Cause
    sentence: str
    maps: Maps


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The two, side by side.

    Attributes:
        network: The float student, fused or not, in eval mode; not changed.
        inputs: Normalised pictures ``[n, 3, H, W]``.
        expected: The float student's heatmaps ``[n, K, h, w]``.
        found: The artifact's, finite and of the same shape.
        contract, skeleton, rule: The student's.
    """

    network: nn.Module
    inputs: Maps
    expected: Maps
    found: Maps
    contract: PreprocessContract
    skeleton: Skeleton
    rule: DecodeRule

    @property
    def has_peaks(self) -> bool:
        """Whether the results are heatmaps, not strips or coordinates."""
        return self.rule in HEATMAP_RULES

    @cached_property
    def pixels(self) -> Maps:
        """The pictures on a scale of 0 to 1, ``[n, 3, H, W]``."""
        return self.inputs * self.std + self.mean

    @property
    def mean(self) -> Maps:
        """The contract's, ``[3, 1, 1]``."""
        return np.asarray(self.contract.mean, np.float32)[:, None, None]

    @property
    def std(self) -> Maps:
        """The contract's, ``[3, 1, 1]``."""
        return np.asarray(self.contract.std, np.float32)[:, None, None]

    def run(self, inputs: Maps) -> Maps:
        """Give the float student's heatmaps of other inputs ``[n, 3, H, W]``."""
        with torch.inference_mode():
            parts = [self.network(torch.from_numpy(part)).numpy() for part in _batches(inputs)]
        return np.concatenate(parts)

    def beside(self, maps: Maps) -> float:
        """Give how large the artifact's difference is beside that of heatmaps, both from the student's: 2 is twice."""
        own = _energy(maps, self.expected)
        return (_energy(self.found, self.expected) / own) ** 0.5 if own > 0 else inf

    def explained(self, maps: Maps) -> float:
        """Give the share of the difference that heatmaps explain: 1 all of it, negative where they are further off."""
        difference = _energy(self.found, self.expected)
        return 1 - _energy(self.found, maps) / difference if difference > 0 else 0.0

    def left(self, maps: Maps) -> float:
        """Give what heatmaps leave unexplained beside all that the student or the artifact gives, squared."""
        whole = max(float(np.square(each, dtype=np.float64).sum()) for each in (self.expected, self.found))
        return _energy(self.found, maps) / whole if whole > 0 else 0.0

    def points(self, maps: Maps) -> NDArray[np.float64]:
        """Decode to x and y in input pixels, ``[n, K, 2]``."""
        return decode(maps, contract=self.contract, rule=self.rule)[..., :2].astype(np.float64)


def _batches(inputs: Maps) -> Iterable[Maps]:
    contiguous = np.ascontiguousarray(inputs, np.float32)
    return (contiguous[start : start + _BATCH] for start in range(0, len(contiguous), _BATCH))


def _energy(a: Maps, b: Maps) -> float:
    return float(np.square(a.astype(np.float64) - b).sum())
