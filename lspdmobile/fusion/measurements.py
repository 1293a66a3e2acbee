"""Timings of single layers on one machine: the file they are kept in, and the prices fitted to them.

``benchmarks/fusion_cost.py`` writes one file per machine into the user's cache folder
(``$XDG_CACHE_HOME/lspdmobile``, ``~/.cache/lspdmobile`` without it), named by the processor and the runtimes' versions:
another processor or another runtime has another file. ``default_costs.json`` beside this module was written by the same
command and stands in where none was run. A cache that cannot be used, for whatever reason, is never used in part: one
warning says why, and the defaults apply.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import TypeAdapter

from lspdmobile.environment import processor
from lspdmobile.errors import BadInputError
from lspdmobile.fusion.kernel_costs import Coefficients, Features, Kind, fitted
from lspdmobile.fusion.operations import AddOp, AffineOp, ConvOp, Dtype, Op
from lspdmobile.fusion.published_costs import Profile
from lspdmobile.fusion.rules import Rule, steps_of

__all__ = ["SCHEMA_VERSION", "Machine", "Measurements", "Sample", "cache_path", "defaults", "measured_here"]

SCHEMA_VERSION: Final = 1
_DEFAULTS: Final = Path(__file__).with_name("default_costs.json")
_RUNTIMES: Final = ("ai-edge-litert", "executorch")
_OPS: Final[dict[str, TypeAdapter[Any]]] = {
    "conv": TypeAdapter(ConvOp),
    "add": TypeAdapter(AddOp),
    "affine": TypeAdapter(AffineOp),
}
_PLAIN_FIELDS: Final = ("target", "dtype", "microseconds")
_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What timings hold for: a processor and the versions of the runtimes."""

    processor: str
    versions: dict[str, str]

    @classmethod
    def here(cls) -> "Machine":
        """Describe this machine; runtimes that are not installed are left out."""
        versions: dict[str, str] = {}
        for name in _RUNTIMES:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return cls(processor=processor(), versions=versions)

    @property
    def text(self) -> str:
        """Processor and versions in one line."""
        return ", ".join([self.processor, *(f"{name} {version}" for name, version in sorted(self.versions.items()))])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One layer's time.

    Attributes:
        target: Name of the target that ran it.
        dtype: What it computed in.
        op: The layer.
        microseconds: Median time of one layer within a chain of equal ones; noise can make it negative.
    """

    target: str
    dtype: Dtype
    op: Op
    microseconds: float


_SAMPLE: Final = TypeAdapter(Sample)


@dataclass(frozen=True)
class Measurements:
    """Samples of one machine.

    Attributes:
        machine: Where they were taken.
        taken: Date, ``YYYY-MM-DD``.
        samples: One thread each.
    """

    machine: Machine
    taken: str
    samples: tuple[Sample, ...]

    @cached_property
    def targets(self) -> frozenset[str]:
        """Names of the targets that were measured."""
        return frozenset(sample.target for sample in self.samples)

    def profile(self, target: str, rules: Sequence[Rule]) -> Profile:
        """Fit the prices of a target's kernels.

        Layers that run as one kernel are fitted first; what a layer with an extra operator takes beyond the price of
        its own kernel is the extra operator's.
        """
        dtypes: tuple[Dtype, ...] = get_args(Dtype)
        return {dtype: self._prices(target, dtype, rules) for dtype in dtypes}

    def _prices(self, target: str, dtype: Dtype, rules: Sequence[Rule]) -> dict[Kind, Coefficients]:
        single: dict[Kind, list[tuple[Features, float]]] = {}
        double: dict[Kind, list[tuple[Features, float]]] = {}
        chosen = [sample for sample in self.samples if (sample.target, sample.dtype) == (target, dtype)]
        steps = [(steps_of(sample.op, dtype, rules) or (), sample.microseconds) for sample in chosen]
        for kernels, time in steps:
            if len(kernels) == 1:
                single.setdefault(kernels[0].kind, []).append((kernels[0].features, time))
        prices = {kind: fitted(kind, samples) for kind, samples in single.items()}
        for kernels, time in steps:
            if len(kernels) == 2 and kernels[0].kind in prices:
                rest = time - prices[kernels[0].kind].microseconds(kernels[0].features)
                double.setdefault(kernels[1].kind, []).append((kernels[1].features, rest))
        return prices | {kind: fitted(kind, samples) for kind, samples in double.items()}

    def to_json(self) -> str:
        """Give the file's text, one sample a line."""
        samples = ",\n".join("  " + json.dumps(_sample_fields(sample)) for sample in self.samples)
        head = {"schema_version": SCHEMA_VERSION, "machine": asdict(self.machine), "taken": self.taken}
        return json.dumps(head)[:-1] + f', "samples": [\n{samples}\n]}}\n'

    @classmethod
    def read(cls, path: Path) -> "Measurements":
        """Read a file back.

        Raises:
            BadInputError: It cannot be read, is damaged, or is of another schema version.
        """
        mend = "run benchmarks/fusion_cost.py again"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            version = found["schema_version"]
            if version != SCHEMA_VERSION:
                message = f"{path}: has schema version {version}, not {SCHEMA_VERSION}; {mend}"
                raise BadInputError(message)
            machine = TypeAdapter(Machine).validate_python(found["machine"])
            samples = tuple(_sample(entry) for entry in found["samples"])
            return cls(machine=machine, taken=str(found["taken"]), samples=samples)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = "damaged" if not isinstance(error, OSError) else error.strerror or "unreadable"
            message = f"{path}: cannot be used ({reason}: {type(error).__name__}); {mend}"
            raise BadInputError(message) from error

    def write(self, path: Path) -> None:
        """Write the file whole or not at all; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(self.to_json(), encoding="utf-8")
        partial.replace(path)


def cache_path(machine: Machine | None = None) -> Path:
    """Give the place of a machine's file, this one's unless another is named; need not exist."""
    key = (machine or Machine.here()).text
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if Path(root).is_absolute() else Path.home() / ".cache"
    return base / "lspdmobile" / f"fusion_cost_{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def measured_here() -> Measurements | None:
    """Give this machine's measurements; None where none were taken, or, with a warning, where they cannot be used."""
    machine = Machine.here()
    path = cache_path(machine)
    if not path.exists():
        return None
    try:
        found = Measurements.read(path)
    except BadInputError as error:
        _logger.warning("%s; default costs are used", error)
        return None
    if found.machine != machine:
        _logger.warning("%s: is of another machine (%s); default costs are used", path, found.machine.text)
        return None
    return found


def defaults() -> Measurements:
    """Give the measurements that come with the package."""
    return Measurements.read(_DEFAULTS)


def _sample_fields(sample: Sample) -> dict[str, Any]:
    shape = next(name for name, adapter in _OPS.items() if adapter._type is type(sample.op))
    fields = {"target": sample.target, "dtype": sample.dtype, "microseconds": round(sample.microseconds, 3)}
    return {**fields, "shape": shape, **asdict(sample.op)}


def _sample(entry: dict[str, Any]) -> Sample:
    shape = {key: value for key, value in entry.items() if key not in (*_PLAIN_FIELDS, "shape")}
    op = _OPS[entry["shape"]].validate_python(shape)
    return _SAMPLE.validate_python({**{key: entry[key] for key in _PLAIN_FIELDS}, "op": op})
