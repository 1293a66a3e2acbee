"""Fusion: replace parts of the float network by an algebraically identical, cheaper form, and prove that it is one.

Any network works: it is exported, and its graph of operators is rewritten.

- ``graph``: the captured program. ``work``: the graph while it is rewritten. ``views``: operators as linear maps.
- ``rewrites``: one rewrite per file, its algebra and a function of weights. ``surgery``: where in a graph it applies.
- ``planner``: which of the exact forms is cheapest, by the cost model of a target (``largest_kernel``).
- ``certifying`` executes both networks, ``certificate`` is the proof, ``cost`` what was saved.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.utils._pytree import tree_map

from lspdmobile.errors import GateFailedError
from lspdmobile.fusion.certificate import Certificate, Refusal
from lspdmobile.fusion.certifying import Finished, compared
from lspdmobile.fusion.cost import Cost, cost_of, dtype_of, macs_of, params_of
from lspdmobile.fusion.graph import Captured, capture, with_preprocess
from lspdmobile.fusion.largest_kernel import LARGEST_KERNEL, CostModel, LargestKernel
from lspdmobile.fusion.operations import Dtype
from lspdmobile.fusion.planner import Planner
from lspdmobile.fusion.probes import randomise_norms
from lspdmobile.fusion.rewriting import rewritten

__all__ = ["Certificate", "Cost", "Fused", "cost_of", "fuse", "macs_of", "params_of", "randomise_norms"]


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A fused network and the evidence for it.

    Attributes:
        network: In eval mode; maps what the original maps to the same values. Its layers are modules at the paths they
            had, merged ones at the path of the block they replace where that is free.
        certificate: What was rewritten and how exactly; its ``sites`` are empty where nothing was fused.
        inputs, keywords: What it was exported for.
    """

    network: GraphModule
    certificate: Certificate
    inputs: tuple[Any, ...]
    keywords: dict[str, Any]

    def program(self) -> ExportedProgram:
        """Export the fused network for the inputs it was certified on."""
        with torch.no_grad():
            return torch.export.export(self.network, self.inputs, self.keywords)


@torch.no_grad()
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
    given = tuple(inputs) if inputs is not None else None
    if given is None and input_size is not None:
        example = network.state_dict if isinstance(network, ExportedProgram) else dict(network.named_parameters())
        number = next((v.dtype for v in example.values() if v.is_floating_point()), torch.float32)
        given = (torch.zeros(1, 3, *input_size, dtype=number),)
    captured = capture(network, given)
    original: nn.Module | None = None if isinstance(network, ExportedProgram) else network
    if preprocess is not None:
        captured, original = with_preprocess(captured, *preprocess), None
    planner = Planner(model=target or LargestKernel(side=largest_kernel), dtype=dtype)

    def rewrite(graph: GraphModule) -> Finished:
        return rewritten(graph, planner).finished

    work = rewritten(captured.graph, planner)
    fused, sites = work.finished(dtype_of(captured.graph))
    evidence = compared(captured, fused, sites, rewrite=rewrite, seed=seed, original=original, pictures=pictures)
    certificate = Certificate(
        sites=evidence.sites,
        checks=evidence.checks,
        refused=tuple(Refusal(name=n, rewrite=r, reason=why) for (n, r), why in work.refused.items()),
        removed=dict(work.removed),
        norms_left=_norms_in(fused),
        skipped=evidence.skipped,
        input_size=_size_of(captured),
        inputs=evidence.inputs,
        seed=seed,
        target=planner.model.name,
        operators_before=_operators_in(captured.graph),
        operators_after=_operators_in(fused),
        before=_cost_on(captured.module if original is None else original, captured),
        after=_cost_on(fused, captured),
    )
    if not certificate.passed:
        message = f"fusion changed the network and must not ship; {len(certificate.faults)} checks failed, first: "
        raise GateFailedError(message + certificate.faults[0])
    return Fused(network=fused, certificate=certificate, inputs=captured.inputs, keywords=dict(captured.keywords))


def _size_of(captured: Captured) -> tuple[int, ...]:
    first = captured.inputs[0] if captured.inputs else None
    return tuple(first.shape[2:]) if isinstance(first, Tensor) and first.ndim == 4 else ()


def _norms_in(fused: GraphModule) -> tuple[str, ...]:
    layers = (path for path, module in fused.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return (*layers, *(node.name for node in fused.graph.nodes if "batch_norm" in str(node.target)))


def _operators_in(graph: GraphModule) -> int:
    """Count the nodes that compute something."""
    return sum(
        node.op in ("call_module", "call_function") and getattr(node.target, "__name__", "") != "getitem"
        for node in graph.graph.nodes
    )


class _OnInputs(nn.Module):
    """Runs a network on inputs it keeps as buffers, so that they go wherever it goes; ignores the picture it is given."""

    def __init__(self, network: nn.Module, captured: Captured) -> None:
        super().__init__()
        self.network = network
        self.values = nn.ParameterDict()
        self.given = (captured.inputs, dict(captured.keywords))

    def forward(self, picture: Tensor) -> Any:
        args, keywords = tree_map(
            lambda value: value.to(picture.device) if isinstance(value, Tensor) else value, self.given
        )
        return self.network(*args, **keywords)


def _cost_on(network: nn.Module, captured: Captured) -> Cost:
    """Count one pass over the example inputs."""
    network = copy.deepcopy(network)
    if isinstance(network, GraphModule):
        for node in network.graph.nodes:
            if "device" in node.kwargs:
                node.update_kwarg("device", torch.device("meta"))
        network.recompile()
    return cost_of(_OnInputs(network, captured), (1, 1), in_channels=1)
