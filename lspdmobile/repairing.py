"""``--repair`` of int8: operators that cost too much accuracy stay in float, as few and as small as will do.

The plan's own network in PyTorch stands for the three runtimes while the search goes on; the files are judged for
themselves afterwards.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.choices import Precision, Verdict
from lspdmobile.measuring import Maps, Progress, Reference
from lspdmobile.parity import Gate, judge
from lspdmobile.preparing import Prepared
from lspdmobile.report.pareto import on_front
from lspdmobile.report.repair import OperatorEntry, RepairEntry, TrialEntry
from lspdmobile.request import Pair
from quantization.mixed import MixedNetwork
from quantization.promotion import Outcome, Promotion, promoted
from quantization.sensitivity import Sensitivity, sensitivity

__all__ = ["LARGEST_GROWTH", "Judging", "repaired"]

_BATCH: Final = 8
LARGEST_GROWTH: Final = 0.25
"""Of the int8 weights; a network that needs more is better exported in float16."""
_MARGIN: Final = 0.8
"""Share of the allowed drop that the search aims at: runtimes round in their own ways."""


def repaired(
    sources: Mapping[Pair, Prepared],
    reference: Reference,
    pictures: NDArray[np.float32],
    gate: Gate,
    progress: Progress,
) -> tuple[dict[Pair, Prepared], tuple[RepairEntry, ...]]:
    """Repair the ``w8a8`` plan of every network that does not pass.

    Args:
        sources: What the artifacts are made from.
        reference: The float student on the pictures that are judged.
        pictures: A few calibration pictures ``[N, 3, H, W]``, for the ranking of operators.
        gate: The limits.
        progress: Told of each step.

    Returns:
        The sources with their new plans, and an entry for each network that was looked into.
    """
    found = dict(sources)
    entries: list[RepairEntry] = []
    for pairs in _by_network(sources):
        source = sources[pairs[0]]
        network = MixedNetwork(source.network, source.plan, reference.student.contract.input_size)
        judging = Judging(network, reference, gate, progress)
        before = judging.outcome(frozenset())
        if before.passed:
            continue

        def ranked(kept: frozenset[str], network: MixedNetwork = network) -> Sensitivity:
            step = f"rank operators beside {len(kept)} in float" if kept else "rank operators"
            return sensitivity(network, pictures, kept=kept, progress=lambda done, total: progress(step, done, total))

        looked_at = ranked(frozenset())
        size = sum(unit.weights for unit in network.units.values())
        promotion = promoted(
            looked_at.candidates,
            judging.outcome,
            extra_bytes=int(LARGEST_GROWTH * size),
            rank_beside=lambda kept: ranked(kept).candidates,
        )
        plan = replace(source.plan, kept_float=promotion.kept)
        found.update({pair: replace(sources[pair], plan=plan) for pair in pairs})
        labels = tuple(f"{form} {precision}" for form, precision in pairs)
        entries.append(_entry(labels, network, looked_at.snr_db, promotion))
    return found, tuple(entries)


def _by_network(sources: Mapping[Pair, Prepared]) -> list[list[Pair]]:
    groups: dict[int, list[Pair]] = {}
    for pair, source in sources.items():
        if pair[1] is Precision.W8A8:
            groups.setdefault(id(source.network), []).append(pair)
    return list(groups.values())


class Judging:
    """Judges a network with some units in float, each set once, by a gate with something held back.

    What passes here are the pictures' own figures: a search cannot get more pictures by keeping more in float.
    """

    def __init__(self, network: MixedNetwork, reference: Reference, gate: Gate, progress: Progress) -> None:
        self._network, self._reference, self._progress = network, reference, progress
        self._gate = replace(gate, max_drop=_MARGIN * gate.max_drop)
        self._known: dict[frozenset[str], Outcome] = {}

    def outcome(self, kept: frozenset[str]) -> Outcome:
        """Run the evaluation pictures and judge."""
        if kept not in self._known:
            found = self._reference.compared_with(self._heatmaps(kept))
            verdict, _ = judge(found.parity, found.drop, Precision.W8A8, None, gate=self._gate)
            drop = None if found.drop is None else found.drop.drop
            passed = verdict in (Verdict.PASS, Verdict.UNDECIDED)
            self._known[kept] = Outcome(passed=passed, drop=drop, drift_p95_px=found.parity.drift_px.p95)
        return self._known[kept]

    def _heatmaps(self, kept: frozenset[str]) -> Maps:
        views, maps = self._reference.views, []
        step = f"judge {len(kept)} operators in float"
        for start in range(0, len(views), _BATCH):
            maps.append(self._network.heatmaps(views.inputs(start, start + _BATCH), kept=kept))
            self._progress(step, min(start + _BATCH, len(views)), len(views))
        return np.concatenate(maps)


def _entry(labels: tuple[str, ...], network: MixedNetwork, snr_db: float, promotion: Promotion) -> RepairEntry:
    size = sum(unit.weights for unit in network.units.values())
    return RepairEntry(
        artifacts=labels,
        passed=promotion.passed,
        operators=len(network.units),
        kept_float=tuple(sorted(promotion.kept)),
        weight_bytes=size,
        extra_bytes=promotion.trial.extra_bytes,
        snr_db=snr_db,
        causes=tuple(
            OperatorEntry(name=c.name, kind=c.kind, units=tuple(sorted(c.units)), share=c.share, cause=c.cause)
            for c in promotion.chosen
        ),
        trials=_trials(network, promotion),
        exhaustive=len(network.units),
    )


def _trials(network: MixedNetwork, promotion: Promotion) -> tuple[TrialEntry, ...]:
    entries = [
        TrialEntry(
            kept_float=len(trial.kept),
            extra_bytes=trial.extra_bytes,
            drop=trial.outcome.drop,
            drift_p95_px=trial.outcome.drift_p95_px,
            passed=trial.outcome.passed,
            integer_operators=len(network.units) - len(trial.kept),
            chosen=trial is promotion.trial,
        )
        for trial in promotion.trials
    ]
    front = zip(entries, on_front(entries), strict=True)
    return tuple(entry.model_copy(update={"on_front": best}) for entry, best in front)
