"""Fusion: replace parts of the float network by an algebraically identical, cheaper form, and prove that it is one.

Any network works: it is exported, and its graph of operators is rewritten.

- ``graph``: the captured program. ``work``: the graph while it is rewritten. ``views``: operators as linear maps.
- ``rewrites``: one rewrite per file, its algebra and a function of weights. ``surgery``: where in a graph it applies.
- ``planner``: which of the exact forms is cheapest, by the cost model of a target.
- ``certifying`` executes both networks, ``certificate`` is the proof, ``cost`` what was saved.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from lspdmobile.fusion.certificate import Certificate
from lspdmobile.fusion.cost import Cost, cost_of, dtype_of, macs_of, params_of
from lspdmobile.fusion.fusing import Fused, fuse_captured, fuse_for_each
from lspdmobile.fusion.graph import capture, with_preprocess
from lspdmobile.fusion.largest_kernel import LARGEST_KERNEL, CostModel, LargestKernel
from lspdmobile.fusion.operations import Dtype
from lspdmobile.fusion.planner import Planner
from lspdmobile.fusion.probes import randomise_norms

__all__ = [
    "Certificate",
    "Cost",
    "Fused",
    "cost_of",
    "fuse",
    "fuse_for_targets",
    "macs_of",
    "params_of",
    "randomise_norms",
]


def fuse(
    network: nn.Module | ExportedProgram,
    *,
    input_size: tuple[int, int] | None = None,
    inputs: Sequence[Any] | None = None,
    target: CostModel | None = None,
    dtype: Dtype = "fp32",
    largest_kernel: int = LARGEST_KERNEL,
    preprocess: tuple[Sequence[float], Sequence[float]] | None = None,
    pictures: Tensor | None = None,
    seed: int = 0,
) -> Fused:
    """Fuse a copy of a network and certify it; the network itself is not touched.

    Args:
        network: Float network in eval mode, or an exported program.
        input_size: Rows and columns H, W of a network that maps pictures ``[1, 3, H, W]``.
        inputs: Example inputs of any other network; a program has its own.
        target: Cost model that chooses among exact forms; without one, no depthwise kernel grows over
            ``largest_kernel``.
        dtype: What the target will compute in.
        largest_kernel: Side of the largest depthwise kernel that branches are merged into, without a target.
        preprocess: Mean and standard deviation per channel that the fused network is to apply itself, so that it takes
            raw pictures; not part of it otherwise.
        pictures: Real inputs ``[M, C, H, W]`` that the certificate tries besides its own.
        seed: Of the inputs and norm statistics the certificate tries.

    Raises:
        BadInputError: The network cannot be fused exactly (train mode, numbers that are not finite, norms without
            statistics) or cannot be exported; the message names what and how to mend it.
        GateFailedError: The fused network is not identical to the original within the stated tolerances.
    """
    original = None if isinstance(network, ExportedProgram) else network
    given = None if inputs is None else tuple(inputs)
    if given is None and input_size is not None:
        number = torch.float32 if original is None else dtype_of(original)
        given = (torch.zeros(1, 3, *input_size, dtype=number),)
    captured = capture(network, given)
    if preprocess is not None:
        captured, original = with_preprocess(captured, *preprocess), None
    planner = Planner(model=target or LargestKernel(side=largest_kernel), dtype=dtype)
    return fuse_captured(captured, planner, original=original, pictures=pictures, seed=seed)


def fuse_for_targets(
    network: nn.Module | ExportedProgram,
    targets: Iterable[tuple[CostModel, Dtype]],
    *,
    input_size: tuple[int, int],
    pictures: Tensor | None = None,
    seed: int = 0,
) -> tuple[Fused, ...]:
    """Fuse copies of a network, one for each target and what it computes in; equal forms share one network.

    Args:
        network: Float network in eval mode that maps ``[1, 3, H, W]``, or a program that does; not touched.
        targets: Cost models that choose among exact forms, and what each will compute in.
        input_size: Rows and columns H, W.
        pictures: Real inputs ``[M, C, H, W]`` that the certificates try besides their own.
        seed: Of the inputs and norm statistics the certificates try.

    Returns:
        In the order of the targets; ``network`` of two of them is the same object where their forms are.

    Raises:
        BadInputError: As :func:`fuse`.
        GateFailedError: As :func:`fuse`.
    """
    original = None if isinstance(network, ExportedProgram) else network
    number = torch.float32 if original is None else dtype_of(original)
    captured = capture(network, (torch.zeros(1, 3, *input_size, dtype=number),))
    planners = [Planner(model=model, dtype=dtype) for model, dtype in targets]
    return fuse_for_each(captured, planners, original=original, pictures=pictures, seed=seed)
