"""What an int8 network loses of the task metric with some operators in float: many such networks in one go.

A batch of pictures is run twice in full, all in float and all in integers; every network asked for is then computed
from the nearer of the two, only as far as it differs. Batches are shared out between cores.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from lspdmobile.decode import decode
from lspdmobile.measuring import Reference
from lspdmobile.parity import MetricDrop
from quantization.mixed import MixedNetwork
from quantization.parallel import mapped

__all__ = ["drops_of"]

_BATCH: Final = 8


def drops_of(
    network: MixedNetwork,
    reference: Reference,
    kept: Sequence[frozenset[str]],
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[MetricDrop | None]:
    """Measure networks that differ in what stays in float; None where the pictures have no labels.

    Args:
        network: With its plan.
        reference: The float student on the evaluation pictures.
        kept: Units that stay in float, for each network.
        jobs: Batches run at once; None takes as many as PyTorch has threads. The result is the same.
        progress: Called with batches done and their number.
    """
    views, student, everything = reference.views, reference.student, frozenset(network.units)

    def points(start: int) -> list[NDArray[np.float32]]:
        inputs = torch.from_numpy(views.inputs(start, start + _BATCH))
        whole = {each: network.run(inputs, kept=each) for each in (everything, frozenset[str]())}
        found: list[NDArray[np.float32]] = []
        for units in kept:
            nearer = min(whole, key=lambda each: len(each ^ units))
            maps = network.result(network.run(inputs, kept=units, like=(whole[nearer], nearer))).numpy()
            found.append(decode(maps, contract=student.contract, rule=student.decode_rule))
        return found

    batches = mapped(points, range(0, len(views), _BATCH), jobs=jobs, progress=progress)
    return [reference.drop_of(np.concatenate(each)) for each in zip(*batches, strict=True)]
