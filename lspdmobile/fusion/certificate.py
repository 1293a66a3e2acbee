"""The evidence that a fusion is identical: what was tried, how large the difference was and how large it may be.

Every error is relative, ``max |before - after| / max |before|``, and is taken

- in float64, where the rewrites' algebra must hold to rounding (``TOLERANCE_FP64``), and in float32, the numbers that
  ship (``TOLERANCE_FP32``: some sixty layers that each round to 6e-8 of their largest value). ``before`` is always the
  original in float64: on an input with little signal the original's own float32 rounding can exceed the tolerance;
  the fused network may then err at most twice as much as the original itself does;
- on every kind of input in ``probes.INPUTS``;
- with norm statistics as trained, and randomised around them, since a fresh norm hides most faults;
- of the whole network, and of every rewritten site by itself, before any activation can hide a difference.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from lspdmobile.errors import GateFailedError
from lspdmobile.fusion.cost import Cost, cost_of, dtype_of
from lspdmobile.fusion.probes import INPUTS, probe_inputs, randomise_norms, relative_error
from lspdmobile.fusion.site import Site

__all__ = ["STATISTICS", "TOLERANCE_FP32", "TOLERANCE_FP64", "Certificate", "Check", "SiteCheck", "certify"]

TOLERANCE_FP64: Final = 1e-12
TOLERANCE_FP32: Final = 1e-5
_TIMES_ROUNDING: Final = 2.0
STATISTICS: Final = ("as trained", "randomised")

_DTYPES: Final = {"fp64": torch.float64, "fp32": torch.float32}
_SITE_SIDE: Final = (13, 16)  # rows and columns of a site's input: larger than any kernel, odd and even

Rewrite = Callable[[nn.Module], tuple[nn.Module, tuple[Site, ...]]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of the whole network: what was tried, the relative error it gave and the original's own."""

    precision: str
    statistics: str
    input: str
    error: float
    rounding: float


@dataclass(frozen=True, kw_only=True)
class SiteCheck:
    """One rewritten place, its largest relative errors over all inputs and statistics, and the original's own."""

    name: str
    rewrite: str
    error_fp64: float
    error_fp32: float
    rounding_fp32: float


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the fusion did and how exactly it did it.

    Attributes:
        sites: Every rewritten place; empty where nothing was fused.
        checks: Every comparison of the whole network.
        norms_left: Paths of the batch norms no rewrite could take.
        input_size: Rows and columns H, W of the picture compared on and counted for.
        seed: Of the inputs and of the randomised statistics.
        before, after: Parameters, MACs and operators that were not counted.
        tolerance_fp64, tolerance_fp32: Largest relative errors that pass.
    """

    sites: tuple[SiteCheck, ...]
    checks: tuple[Check, ...]
    norms_left: tuple[str, ...]
    input_size: tuple[int, int]
    seed: int
    before: Cost
    after: Cost
    tolerance_fp64: float = TOLERANCE_FP64
    tolerance_fp32: float = TOLERANCE_FP32

    @property
    def error_fp64(self) -> float:
        """Largest float64 relative error of the whole network."""
        return max(check.error for check in self.checks if check.precision == "fp64")

    @property
    def error_fp32(self) -> float:
        """Largest float32 relative error of the whole network."""
        return max(check.error for check in self.checks if check.precision == "fp32")

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything over its tolerance, one line each; a number that is not a number is over it."""
        allowed = {"fp64": self.tolerance_fp64, "fp32": self.tolerance_fp32}
        network = (
            f"whole network, {c.precision}, statistics {c.statistics}, input {c.input}: relative error {c.error:.1e}"
            for c in self.checks
            if not c.error <= max(allowed[c.precision], _TIMES_ROUNDING * c.rounding)
        )
        sites = (
            f"{s.name} ({s.rewrite}): relative error {s.error_fp64:.1e} in fp64, {s.error_fp32:.1e} in fp32"
            for s in self.sites
            if not s.error_fp64 <= self.tolerance_fp64
            or not s.error_fp32 <= max(self.tolerance_fp32, _TIMES_ROUNDING * s.rounding_fp32)
        )
        return (*sites, *network)

    @property
    def passed(self) -> bool:
        """Whether every comparison is within its tolerance."""
        return not self.faults

    @property
    def summary(self) -> str:
        """Say in one line what was fused and how exactly."""
        if not self.sites:
            return "nothing was fused: no convolution is followed by a batch norm and no branches can be merged"
        counts = {rewrite: sum(s.rewrite == rewrite for s in self.sites) for rewrite in _rewrites(self.sites)}
        done = ", ".join(f"{rewrite} {count}x" for rewrite, count in counts.items())
        left = f"; {len(self.norms_left)} norms left" if self.norms_left else ""
        return f"{done}{left}; relative error {self.error_fp64:.1e} in fp64, {self.error_fp32:.1e} in fp32"

    def to_dict(self) -> dict[str, Any]:
        """Give what ``fusion.json`` holds."""
        return {
            "schema_version": 1,
            "passed": self.passed,
            "summary": self.summary,
            "relative_error": {"fp64": self.error_fp64, "fp32": self.error_fp32},
            "tolerance": {"fp64": self.tolerance_fp64, "fp32": self.tolerance_fp32},
            "input_size": list(self.input_size),
            "inputs": list(INPUTS),
            "statistics": list(STATISTICS),
            "seed": self.seed,
            "params": {"before": self.before.params, "after": self.after.params},
            "macs": {"before": self.before.macs, "after": self.after.macs},
            "uncounted_ops": {"before": dict(self.before.uncounted_ops), "after": dict(self.after.uncounted_ops)},
            "norms_left": list(self.norms_left),
            "sites": [asdict(site) for site in self.sites],
            "checks": [asdict(check) for check in self.checks],
        }


def certify(
    original: nn.Module,
    fused: nn.Module,
    sites: tuple[Site, ...],
    *,
    rewrite: Rewrite,
    input_size: tuple[int, int],
    seed: int,
) -> Certificate:
    """Compare a fused network with its original, and the same rewrite of copies in float64 and with randomised norms.

    Args:
        original: Float network in eval mode that maps pictures ``[1, 3, H, W]`` to one or more tensors; not touched.
        fused: What ships: the rewritten copy of the original.
        sites: Where it was rewritten.
        rewrite: Gives a rewritten copy of a network and where it was rewritten.
        input_size: Rows and columns H, W.
        seed: Of inputs and statistics.

    Raises:
        GateFailedError: The fused network cannot run at all.
    """
    generator = torch.Generator().manual_seed(seed)
    pictures = probe_inputs((1, 3, *input_size), generator)
    checks: list[Check] = []
    site_errors: dict[tuple[str, str], _Error] = {}
    for statistics, source in zip(STATISTICS, (original, _randomised(original, generator)), strict=True):
        for precision, dtype in _DTYPES.items():
            before = copy.deepcopy(source).to(dtype)
            ships = source is original and dtype == dtype_of(original)
            after, found = (fused, sites) if ships else rewrite(before)
            for name, error in _errors(before, after, pictures, dtype):
                checks.append(
                    Check(
                        precision=precision,
                        statistics=statistics,
                        input=name,
                        error=error.error,
                        rounding=error.rounding,
                    )
                )
            for site in found:
                key = (site.name, precision)
                site_errors[key] = max(
                    site_errors.get(key, _NO_ERROR), _site_error(site, before, after, generator, dtype)
                )
    return Certificate(
        sites=tuple(_site_check(site, site_errors) for site in sites),
        checks=tuple(checks),
        norms_left=_norms_in(fused),
        input_size=input_size,
        seed=seed,
        before=cost_of(original, input_size),
        after=cost_of(fused, input_size),
    )


def _randomised(network: nn.Module, generator: torch.Generator) -> nn.Module:
    twin = copy.deepcopy(network)
    randomise_norms(twin, generator)
    return twin


class _Error(NamedTuple):
    """Relative error of the rewritten form, and of the original itself, against the original in float64."""

    error: float
    rounding: float


_NO_ERROR: Final = _Error(0.0, 0.0)


@torch.no_grad()
def _errors(
    before: nn.Module, after: nn.Module, inputs: Mapping[str, Tensor], dtype: torch.dtype
) -> Iterator[tuple[str, _Error]]:
    exact = copy.deepcopy(before).double()
    for name, values in inputs.items():
        rounded = values.to(dtype)
        expected = _outputs(exact(rounded.double()))
        try:
            found = _outputs(after(rounded))
        except RuntimeError as error:
            message = f"fusion changed the network and must not ship; it no longer runs: {error}"
            raise GateFailedError(message) from error
        yield name, _Error(_largest(expected, found), _largest(expected, _outputs(before(rounded))))


def _largest(expected: list[Tensor], found: list[Tensor]) -> float:
    return max(relative_error(*pair) for pair in zip(expected, found, strict=True))


def _site_error(
    site: Site, before: nn.Module, after: nn.Module, generator: torch.Generator, dtype: torch.dtype
) -> _Error:
    inputs = probe_inputs((1, site.in_channels, *_SITE_SIDE), generator)
    return max(error for _, error in _errors(site.before(before), site.after(after), inputs, dtype))


def _site_check(site: Site, errors: Mapping[tuple[str, str], _Error]) -> SiteCheck:
    return SiteCheck(
        name=site.name,
        rewrite=site.rewrite,
        error_fp64=errors[site.name, "fp64"].error,
        error_fp32=errors[site.name, "fp32"].error,
        rounding_fp32=errors[site.name, "fp32"].rounding,
    )


def _outputs(found: Any) -> list[Tensor]:
    """Flatten what a network gave: a tensor, or tensors in lists and tuples."""
    return [found] if isinstance(found, Tensor) else [tensor for part in found for tensor in _outputs(part)]


def _norms_in(network: nn.Module) -> tuple[str, ...]:
    return tuple(
        path for path, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    )


def _rewrites(sites: tuple[SiteCheck, ...]) -> list[str]:
    return list(dict.fromkeys(site.rewrite for site in sites))
