"""From a captured network to a fused one with its certificate."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.utils._pytree import tree_map

from lspdmobile.errors import GateFailedError
from lspdmobile.fusion.certificate import Certificate, Refusal
from lspdmobile.fusion.certifying import Finished, compared
from lspdmobile.fusion.cost import Cost, cost_of, dtype_of
from lspdmobile.fusion.graph import Captured
from lspdmobile.fusion.planner import Planner
from lspdmobile.fusion.quantizability import WeightForecast, forecast_weight
from lspdmobile.fusion.rewriting import rewritten
from lspdmobile.fusion.work import Site, Work

__all__ = ["Fused", "fuse_captured", "fuse_for_each"]

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


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
    keywords: Mapping[str, Any]

    def program(self) -> ExportedProgram:
        """Export the fused network for the inputs it was certified on."""
        with torch.no_grad():
            return torch.export.export(self.network, self.inputs, dict(self.keywords))


def fuse_captured(
    captured: Captured,
    planner: Planner,
    *,
    original: nn.Module | None = None,
    pictures: Tensor | None = None,
    seed: int = 0,
) -> Fused:
    """Fuse a captured network and certify it.

    Args:
        captured: Not touched.
        planner: Chooses among exact forms.
        original: The module that was exported; None for a program.
        pictures: Real inputs ``[M, C, H, W]`` that the certificate tries besides its own.
        seed: Of the inputs and norm statistics the certificate tries.

    Raises:
        GateFailedError: The fused network is not identical to the original within the stated tolerances.
    """
    return fuse_for_each(captured, [planner], original=original, pictures=pictures, seed=seed)[0]


@torch.no_grad()
def fuse_for_each(
    captured: Captured,
    planners: Sequence[Planner],
    *,
    original: nn.Module | None = None,
    pictures: Tensor | None = None,
    seed: int = 0,
) -> tuple[Fused, ...]:
    """Fuse a captured network once for each planner; those that choose the same forms share one network.

    Each network is certified once. The certificates of planners that share one differ in what the forms cost.

    Args:
        captured: Not touched.
        planners: Each chooses among exact forms.
        original: The module that was exported; None for a program.
        pictures: Real inputs ``[M, C, H, W]`` that the certificates try besides their own.
        seed: Of the inputs and norm statistics the certificates try.

    Raises:
        GateFailedError: A fused network is not identical to the original within the stated tolerances.
    """
    found: dict[tuple[object, ...], Fused] = {}
    results: list[Fused] = []
    for planner in planners:
        work = rewritten(captured.graph, planner)
        fused, sites = work.finished(dtype_of(captured.graph))
        forms = str(fused), *(replace(site, choice=None) for site in sites)
        if forms not in found:
            found[forms] = _certified(
                captured, planner, work, (fused, sites), original=original, pictures=pictures, seed=seed
            )
        results.append(_priced(found[forms], planner, sites))
    return tuple(results)


def _priced(fused: Fused, planner: Planner, sites: Sequence[Site]) -> Fused:
    """Enter what another planner's prices say of the same forms."""
    certificate = fused.certificate
    checks = tuple(replace(c, choice=site.choice) for c, site in zip(certificate.sites, sites, strict=True))
    priced = replace(certificate, sites=checks, target=planner.model.name, dtype=planner.dtype)
    return replace(fused, certificate=priced)


def _certified(
    captured: Captured,
    planner: Planner,
    work: Work,
    finished: tuple[GraphModule, tuple[Site, ...]],
    *,
    original: nn.Module | None,
    pictures: Tensor | None,
    seed: int,
) -> Fused:
    """Compare a fused network with what it was made from."""

    def rewrite(graph: GraphModule) -> Finished:
        return rewritten(graph, planner).finished

    fused, sites = finished
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
        dtype=planner.dtype,
        operators_before=_operators_in(captured.graph),
        operators_after=_operators_in(fused),
        before=_cost_on(captured.module if original is None else original, captured),
        after=_cost_on(fused, captured),
        int8=tuple(work.int8.values()),
        weights=_weights_of(fused),
    )
    if not certificate.passed:
        message = f"fusion changed the network and must not ship; {len(certificate.faults)} checks failed, first: "
        raise GateFailedError(message + certificate.faults[0])
    return Fused(network=fused, certificate=certificate, inputs=captured.inputs, keywords=captured.keywords)


def _size_of(captured: Captured) -> tuple[int, ...]:
    first = captured.inputs[0] if captured.inputs else None
    return tuple(first.shape[2:]) if isinstance(first, Tensor) and first.ndim == 4 else ()


def _norms_in(fused: GraphModule) -> tuple[str, ...]:
    layers = (path for path, module in fused.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return (*layers, *(node.name for node in fused.graph.nodes if "batch_norm" in str(node.target)))


def _weights_of(fused: GraphModule) -> dict[str, WeightForecast]:
    layers = ((path, layer) for path, layer in fused.named_modules() if isinstance(layer, _WEIGHTED))
    return {path: forecast_weight(_by_output(layer).detach().double().numpy()) for path, layer in layers}


def _by_output(layer: nn.Module) -> Tensor:
    """Give a layer's weight, output channels first."""
    assert isinstance(layer, _WEIGHTED)
    return layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight


def _operators_in(graph: GraphModule) -> int:
    """Count the nodes that compute something."""
    return sum(
        node.op in ("call_module", "call_function") and getattr(node.target, "__name__", "") != "getitem"
        for node in graph.graph.nodes
    )


class _OnInputs(nn.Module):
    """Runs a network on the inputs it was exported for, on the device of the picture it is given and ignores."""

    def __init__(self, network: nn.Module, captured: Captured) -> None:
        super().__init__()
        self.network = network
        self.given = (captured.inputs, dict(captured.keywords))

    def forward(self, picture: Tensor) -> Any:
        """Map a picture of any size to what the network gives for its own inputs."""
        args, keywords = tree_map(
            lambda value: value.to(picture.device) if isinstance(value, Tensor) else value, self.given
        )
        return self.network(*args, **keywords)


def _cost_on(network: nn.Module, captured: Captured) -> Cost:
    """Count one pass over the inputs a network was exported for."""
    network = copy.deepcopy(network)
    if isinstance(network, GraphModule):
        for node in network.graph.nodes:
            if "device" in node.kwargs:
                node.update_kwarg("device", torch.device("meta"))
        network.recompile()
    return cost_of(_OnInputs(network, captured), (1, 1), in_channels=1)
