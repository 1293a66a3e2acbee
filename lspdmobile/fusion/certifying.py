"""The comparison behind a certificate: both networks are executed; nothing here knows how a rewrite works."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter
from torch.utils._pytree import tree_map

from lspdmobile.errors import GateFailedError
from lspdmobile.fusion.certificate import STATISTICS, Check, SiteCheck
from lspdmobile.fusion.executing import MissingValueError, outputs_of, side_of, value_between
from lspdmobile.fusion.graph import Captured, widened
from lspdmobile.fusion.probes import INPUTS, inputs_of_every_kind, probe_inputs, randomise_norms, relative_error, ulps
from lspdmobile.fusion.work import Site

__all__ = ["Evidence", "Finished", "Rewrite", "compared"]

Finished = Callable[[torch.dtype], tuple[GraphModule, tuple[Site, ...]]]
"""Gives a rewritten graph in a float type, and where it was rewritten."""
Rewrite = Callable[[GraphModule], Finished]
"""Rewrites a copy of a captured graph."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was compared: of the whole network, of the sites, and the inputs on which the original overflows."""

    checks: tuple[Check, ...]
    sites: tuple[SiteCheck, ...]
    inputs: tuple[str, ...]
    skipped: tuple[str, ...]


class _Error(NamedTuple):
    """Relative error of the rewritten form, of the original itself, and the first in units in the last place."""

    error: float
    rounding: float
    ulps: float


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Original and rewritten form in both precisions, with one set of statistics."""

    statistics: str
    exact: GraphModule
    before: GraphModule
    after: Mapping[str, GraphModule]
    sites: Mapping[str, tuple[Site, ...]]
    exact_parts: Interpreter
    before_parts: Interpreter
    after_parts: Mapping[str, Interpreter]


_DTYPES: Final = {"fp64": torch.float64, "fp32": torch.float32}
_NO_ERROR: Final = _Error(0.0, 0.0, 0.0)
_LOST: Final = _Error(float("inf"), 0.0, float("inf"))


def compared(
    captured: Captured,
    fused: GraphModule,
    sites: tuple[Site, ...],
    *,
    rewrite: Rewrite,
    seed: int,
    original: nn.Module | None = None,
    pictures: Tensor | None = None,
) -> Evidence:
    """Compare a fused network with its original, and the same rewrite in float64 and with randomised statistics.

    Args:
        captured: The original; not touched.
        fused: What ships.
        sites: Where it was rewritten.
        rewrite: Gives a rewritten copy of a captured graph.
        seed: Of inputs and statistics.
        original: The module that was exported, to check the export itself; None for a program.
        pictures: Real inputs ``[M, C, H, W]`` to try besides, for a network of one input.

    Raises:
        GateFailedError: The fused network cannot run at all.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = inputs_of_every_kind(captured, generator, pictures)
    checks: list[Check] = []
    skipped: list[str] = []
    found: dict[tuple[str, str], _Error] = {}
    faults: dict[str, str] = {}
    if original is not None:
        checks += _export_checks(original, captured, inputs)
    for statistics in STATISTICS:
        pair = _pair(statistics, captured, (fused, sites), rewrite, generator)
        for check in _whole(pair, inputs):
            if isinstance(check, Check):
                checks.append(check)
            else:
                skipped.append(check)
        for claims in zip(*pair.sites.values(), strict=True):
            value = claims[0].value
            try:
                errors = _site_errors(pair, dict(zip(_DTYPES, claims, strict=True)), generator)
            except MissingValueError as reason:
                errors, faults[value] = dict.fromkeys(_DTYPES, _LOST), str(reason)
            for precision, error in errors.items():
                found[value, precision] = _worse(found.get((value, precision), _NO_ERROR), error)
    return Evidence(
        checks=tuple(checks),
        sites=tuple(_site_check(site, found, faults.get(site.value, "")) for site in sites),
        inputs=tuple(inputs),
        skipped=tuple(skipped),
    )


def _rounded(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _export_checks(original: nn.Module, captured: Captured, inputs: Mapping[str, tuple[Any, Any]]) -> Iterator[Check]:
    """Compare the exported program with the module it came from, in the module's own precision."""
    dtype = next((p.dtype for p in original.parameters() if p.is_floating_point()), torch.float32)
    for name, values in inputs.items():
        args, keywords = tree_map(lambda value: _rounded(value, dtype), values)
        expected, found = outputs_of(original, args, keywords), outputs_of(captured.module, args, keywords)
        if _finite(expected):
            error = max(relative_error(*pair) for pair in zip(expected, found, strict=True))
            yield Check(precision="export", statistics=STATISTICS[0], input=name, error=error, rounding=0.0, ulps=0.0)


def _pair(
    statistics: str,
    captured: Captured,
    shipped: tuple[GraphModule, tuple[Site, ...]],
    rewrite: Rewrite,
    generator: torch.Generator,
) -> _Pair:
    """Rewrite in both precisions, with statistics as trained or others; what ships is taken as it is."""
    fused = shipped[0]
    module, graph = captured.module, captured.graph
    trained = statistics == STATISTICS[0]
    if not trained:
        graph = copy.deepcopy(graph)
        randomise_norms(graph, generator)
        module = graph if module is captured.graph else _with_tensors_of(graph, copy.deepcopy(module))
    ships = next((p.dtype for p in fused.parameters() if p.is_floating_point()), torch.float32)
    finished = rewrite(graph)
    after: dict[str, GraphModule] = {}
    found: dict[str, tuple[Site, ...]] = {}
    for name, dtype in _DTYPES.items():
        form, found[name] = shipped if trained and dtype == ships else finished(dtype)
        after[name] = form if name == "fp32" else widened(form)
    exact = widened(module)
    return _Pair(
        statistics=statistics,
        exact=exact,
        before=module if ships is torch.float32 else copy.deepcopy(module).float(),
        after=after,
        sites=found,
        exact_parts=Interpreter(exact if graph is module else widened(graph)),
        before_parts=Interpreter(graph if ships is torch.float32 else copy.deepcopy(graph).float()),
        after_parts={name: Interpreter(form) for name, form in after.items()},
    )


def _with_tensors_of(source: GraphModule, module: GraphModule) -> GraphModule:
    values = dict(source.state_dict(keep_vars=True))
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            tensor.copy_(values[name])
    return module


def _whole(pair: _Pair, inputs: Mapping[str, tuple[Any, Any]]) -> Iterator[Check | str]:
    """Compare whole networks on every input; gives the names of those on which the original overflows."""
    for name, (args, keywords) in inputs.items():
        expected = outputs_of(pair.exact, args, keywords)
        for precision, dtype in _DTYPES.items():
            given, named = tree_map(lambda value, dtype=dtype: _rounded(value, dtype), (args, keywords))
            before = expected if precision == "fp64" else outputs_of(pair.before, given, named)
            if not (_finite(expected) and _finite(before)):
                yield f"{precision}, statistics {pair.statistics}, input {name}: the original is not finite"
                continue
            try:
                found = outputs_of(pair.after[precision], given, named)
            except RuntimeError as error:
                message = f"fusion changed the network and must not ship; it no longer runs: {error}"
                raise GateFailedError(message) from error
            errors = _error(expected, before, found, dtype)
            yield Check(
                precision=precision,
                statistics=pair.statistics,
                input=name,
                error=errors.error,
                rounding=errors.rounding,
                ulps=errors.ulps,
            )


def _error(expected: list[Tensor], before: list[Tensor], found: list[Tensor], dtype: torch.dtype) -> _Error:
    if len(expected) != len(found):
        return _LOST
    return _Error(
        max(relative_error(*each) for each in zip(expected, found, strict=True)),
        max(relative_error(*each) for each in zip(expected, before, strict=True)),
        max(
            ulps(*each, dtype) if each[0].shape == each[1].shape else float("inf")
            for each in zip(expected, found, strict=True)
        ),
    )


def _finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _site_errors(pair: _Pair, claims: Mapping[str, Site], generator: torch.Generator) -> dict[str, _Error]:
    """Compare one site in both precisions, from the values it reads to the value it gives.

    Raises:
        MissingValueError: One of the forms also needs another value.
    """
    site = claims["fp64"]
    shapes = {node.name: node.meta["shape"] for node in pair.exact_parts.graph.nodes}
    sizes = [shapes[names[0]] for names in site.sources]
    if len({tuple(size[2:]) for size in sizes}) <= 1:
        forms = (
            (pair.exact_parts, list(_named(site, sizes)), site.value),
            (pair.after_parts["fp64"], site.inputs, site.node),
        )
        sizes = [side_of(forms, size) for size in sizes]
    probes = [probe_inputs(size, generator) for size in sizes]
    worst = dict.fromkeys(_DTYPES, _NO_ERROR)
    for kind in INPUTS:
        values = [probe[kind] for probe in probes]
        expected = value_between(pair.exact_parts, _named(site, values), site.value)
        for precision, claim in claims.items():
            error = _claim_error(pair, claim, precision, values, expected)
            worst[precision] = _worse(worst[precision], error)
    return worst


def _named(site: Site, values: Sequence[Any]) -> dict[str, Any]:
    """Give each value under every name it has in the captured graph."""
    return {name: value for names, value in zip(site.sources, values, strict=True) for name in names}


def _claim_error(pair: _Pair, site: Site, precision: str, values: Sequence[Tensor], expected: Tensor) -> _Error:
    """Compare the value that a site gives in one precision with the exact one."""
    dtype, before = _DTYPES[precision], expected
    given = [value.to(dtype) for value in values]
    if precision == "fp32":
        before = value_between(pair.before_parts, _named(site, given), site.value)
    if not _finite([expected, before]):
        return _NO_ERROR
    try:
        inputs = dict(zip(site.inputs, given, strict=True))
        found = value_between(pair.after_parts[precision], inputs, site.node)
    except RuntimeError:
        return _LOST
    return _error([expected], [before], [found], dtype)


def _worse(one: _Error, other: _Error) -> _Error:
    return _Error(*(max(each) for each in zip(one, other, strict=True)))


def _site_check(site: Site, errors: Mapping[tuple[str, str], _Error], fault: str) -> SiteCheck:
    fp64, fp32 = (errors.get((site.value, precision), _LOST) for precision in ("fp64", "fp32"))
    return SiteCheck(
        name=site.name,
        rewrite=site.rewrites[-1],
        rewrites=site.rewrites,
        form=site.form,
        choice=site.choice,
        error_fp64=fp64.error,
        error_fp32=fp32.error,
        rounding_fp32=fp32.rounding,
        ulps_fp32=fp32.ulps,
        fault=fault,
    )
