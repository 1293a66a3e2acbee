"""``--methods``: plans whose network was changed, or whose ranges were tuned, so that rounding costs less.

The methods (``quantization.methods``) take the calibration pictures and no labels. Every network that is quantized is
improved once; its float artifacts stay the fused student's.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import log10
from typing import Any

from torch import nn

from lspdmobile.calibrating import CalibrationPictures
from lspdmobile.choices import Precision
from lspdmobile.measuring import Progress
from lspdmobile.preparing import Prepared
from lspdmobile.report.methods import MethodEntry
from lspdmobile.request import Pair
from quantization.affine import INTEGER_WEIGHTS
from quantization.methods import Method, prepare
from quantization.methods.preparing import Prepared as Improved

__all__ = ["improved", "method_entries"]


def improved(
    sources: Mapping[Pair, Prepared],
    pictures: CalibrationPictures,
    methods: Collection[Method],
    *,
    seed: int,
    progress: Progress,
) -> dict[Pair, Prepared]:
    """Apply methods to every plan with integer weights.

    Args:
        sources: What the artifacts are made from.
        pictures: Calibration inputs.
        methods: Which; none leaves the sources as they are.
        seed: Of every random choice.
        progress: Told of each step.

    Raises:
        BadInputError: There are fewer than two pictures.
    """
    known: dict[tuple[int, Precision], Improved] = {}
    found: dict[Pair, Prepared] = {}
    for pair, source in sources.items():
        if not methods or pair[1] not in INTEGER_WEIGHTS:
            found[pair] = source
            continue
        key = id(source.network), pair[1]
        if key not in known:
            known[key] = prepare(source.network, source.plan, pictures, methods=methods, seed=seed, progress=progress)
        found[pair] = _with(source, known[key])
    return found


def method_entries(sources: Mapping[Pair, Prepared]) -> tuple[MethodEntry, ...]:
    """Give what methods did to each network, a line of the report for each method."""
    networks: dict[int, list[Pair]] = {}
    for pair, source in sources.items():
        if source.records:
            networks.setdefault(id(source.records), []).append(pair)
    return tuple(
        _entry(tuple(f"{form} {precision}" for form, precision in pairs), record)
        for pairs in networks.values()
        for record in sources[pairs[0]].records
    )


def _entry(artifacts: tuple[str, ...], record: Mapping[str, Any]) -> MethodEntry:
    before, after = (_decibels(noise) for noise in record.get("noise", (None, None)))
    return MethodEntry(
        artifacts=artifacts,
        method=record["method"],
        before_db=before,
        after_db=after,
        kept=record.get("kept", False),
        reason=record.get("skipped") or record.get("fault") or "",
    )


def _decibels(noise: float | None) -> float | None:
    """Give the signal-to-noise ratio of a noise-to-signal ratio; None where there is none or no noise."""
    return None if not noise else -10 * log10(noise)


def _with(source: Prepared, done: Improved) -> Prepared:
    changed: nn.Module | None = None if done.network is source.network else done.network
    return replace(source, plan=done.plan, changed=changed, records=done.records)
