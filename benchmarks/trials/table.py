"""What the runs come to: means and spreads over seeds, and differences between runs of the same seed."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table

from benchmarks.trials.arms import Arm
from benchmarks.trials.runs import Result

__all__ = ["Spread", "rows_of", "tables_of"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and standard deviation over seeds; the deviation of a single value is not known."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Summarise some values; None of none."""
        found = list(values)
        if not found:
            return None
        deviation = statistics.stdev(found) if len(found) > 1 else None
        return cls(mean=statistics.fmean(found), deviation=deviation, count=len(found))

    def to_dict(self) -> dict[str, Any]:
        """Give JSON-able values."""
        deviation = None if self.deviation is None else round(self.deviation, 5)
        return {"mean": round(self.mean, 5), "sd": deviation, "seeds": self.count}


def rows_of(arms: Sequence[Arm], results: Mapping[str, Result], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Give a row for every arm that has a run; differences are between runs of the same seed, and their spread too."""
    by_arm = {
        arm.name: {seed: results[arm.run_name(seed)] for seed in seeds if arm.run_name(seed) in results} for arm in arms
    }
    return [_row(arm, by_arm[arm.name], by_arm.get(arm.against, {})) for arm in arms if by_arm[arm.name]]


def _row(arm: Arm, ours: Mapping[int, Result], theirs: Mapping[int, Result]) -> dict[str, Any]:
    some = next(iter(ours.values()))
    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    return {
        "arm": arm.name,
        "against": arm.against,
        "metrics": {key: _told(r.metrics[key] for r in ours.values()) for key in some.metrics},
        "difference": {key: _told(a.metrics[key] - b.metrics[key] for a, b in pairs) for key in some.metrics},
        "joints": {key: _told(r.joints[key] for r in ours.values()) for key in some.joints},
        "joint_difference": {key: _told(a.joints[key] - b.joints[key] for a, b in pairs) for key in some.joints},
        "teacher": _told(r.teacher for r in ours.values() if r.teacher is not None),
        "pictures_per_second": round(statistics.fmean(r.pictures_per_second for r in ours.values()), 1),
        "minutes": round(statistics.fmean(r.seconds for r in ours.values()) / 60, 1),
    }


def _told(values: Iterable[float]) -> dict[str, Any] | None:
    spread = Spread.of(values)
    return None if spread is None else spread.to_dict()


def tables_of(rows: Sequence[Mapping[str, Any]]) -> Group:
    """Lay the rows out twice: all joints, and by kind of joint; accuracies in percent, differences in points."""
    whole = _table("arm", "seeds", "PCK@0.2", "PCKh@0.5", "teacher PCK", "against", "PCK points", "PCKh points", "min")
    for row in rows:
        metrics, difference = row["metrics"], row["difference"]
        whole.add_row(
            row["arm"],
            str(metrics["pck@0.2"]["seeds"]),
            *(_percent(metrics[key]) for key in ("pck@0.2", "pckh@0.5")),
            _percent(row["teacher"]),
            row["against"],
            *(_percent(difference[key], signed=True) for key in ("pck@0.2", "pckh@0.5")),
            f"{row['minutes']:.0f}",
        )
    kinds = list(rows[0]["joints"]) if rows else []
    joints = _table("arm, PCK@0.2", *kinds)
    for row in rows:
        joints.add_row(row["arm"], *(_percent(row["joints"][kind]) for kind in kinds))
        if row["joint_difference"][kinds[0]]:
            joints.add_row("  points", *(_percent(row["joint_difference"][kind], signed=True) for kind in kinds))
    return Group(whole, "", joints)


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _percent(told: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    if told is None:
        return "-"
    mean = f"{100 * told['mean']:{'+' if signed else ''}.1f}"
    return mean if told["sd"] is None else f"{mean} ± {100 * told['sd']:.1f}"
