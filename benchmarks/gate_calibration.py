"""How often the gate's verdict is wrong: made-up artifacts whose drop over all pictures there are is known.

    python benchmarks/gate_calibration.py [--trials 400] [--pictures 32,128,256,400,1000] [--budget 1] [--seed 0]
        [--json]

Takes no timing and no picture. A world says how losses are spread (:data:`WORLDS`); pictures are drawn from it, scored
as PCK and judged by the gate as an integer artifact. "False pass" is how often an artifact passes whose drop is just
the budget, beside how often it would by other intervals; "false fail" how often one fails that loses nothing, and how
often it does so with an interval that excludes the budget.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from lspdmobile.choices import Precision, Verdict
from lspdmobile.parity import Drift, Gate, JointHits, Parity, TaskMetrics, judge, metric_drop

JOINTS: Final = 14
PCK: Final = "pck@0.2"
_CONCENTRATION: Final = 5.0
_RESAMPLES: Final = 1000


@dataclass(frozen=True, kw_only=True)
class World:
    """How an artifact's losses are spread over pictures.

    Attributes:
        accuracy: PCK of the float student before noise, 0 to 1; below 1 some pictures are harder than others.
        churn: Chance that noise turns a joint's hit or miss round, in each network by itself.
        correlation: Of the losses of two joints of one picture: 0 joint by joint, 1 whole pictures.
    """

    accuracy: float
    churn: float
    correlation: float

    def hits(self, rng: np.random.Generator, pictures: int, drop: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Draw what float student and artifact hit, ``[pictures, 14]``; the expected drop is ``drop`` points."""
        shape = (pictures, JOINTS)
        share = np.full((pictures, 1), self.accuracy)
        if self.accuracy < 1:
            right, wrong = _CONCENTRATION * self.accuracy, _CONCENTRATION * (1 - self.accuracy)
            share = rng.beta(right, wrong, (pictures, 1))
        before = rng.random(shape) < share
        after = before & (rng.random(shape) >= self._lost(rng, pictures, drop))
        noise = rng.random((2, *shape)) < self.churn
        return before ^ noise[0], after ^ noise[1]

    def _lost(self, rng: np.random.Generator, pictures: int, drop: float) -> NDArray[np.float64]:
        """Chance of each picture's hits to be lost, ``[pictures, 1]``."""
        mean = drop / 100 / (self.accuracy * (1 - 2 * self.churn))
        if mean == 0 or self.correlation == 0:
            return np.full((pictures, 1), mean)
        if self.correlation == 1:
            return (rng.random((pictures, 1)) < mean).astype(np.float64)
        concentration = 1 / self.correlation - 1
        return rng.beta(concentration * mean, concentration * (1 - mean), (pictures, 1))


WORLDS: Final[Mapping[str, World]] = {
    "joint by joint, noise": World(accuracy=0.8, churn=0.01, correlation=0.0),
    "parts of pictures": World(accuracy=1.0, churn=0.0, correlation=0.3),
    "parts of pictures, noise": World(accuracy=0.8, churn=0.01, correlation=0.3),
    "whole pictures": World(accuracy=1.0, churn=0.0, correlation=1.0),
    "whole pictures, noise": World(accuracy=0.8, churn=0.01, correlation=1.0),
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What became of the artifacts of one world, number of pictures and drop; shares of the trials, 0 to 1.

    Attributes:
        passed, failed, undecided: The gate's verdicts.
        surely_failed: Failed with an interval that excludes the budget.
        other_passes: Passes by the high end of other 95 % intervals of the same pictures.
    """

    passed: float
    failed: float
    undecided: float
    surely_failed: float
    other_passes: Mapping[str, float]


def judged(
    world: World, pictures: int, drop: float, *, gate: Gate, trials: int, seed: int, others: bool = False
) -> Judged:
    """Draw, score and judge artifacts whose drop is known."""
    rng, parity = np.random.default_rng(seed), _still(pictures)
    verdicts, sure, passes = [], 0, dict.fromkeys(_OTHERS, 0)
    for _ in range(trials):
        before, after = world.hits(rng, pictures, drop)
        found = metric_drop(scores_of(before), scores_of(after), PCK)
        verdict, _ = judge(parity, found, Precision.W8A8, None, gate=gate)
        verdicts.append(verdict)
        sure += verdict is Verdict.FAIL and found.interval(gate.confidence)[0] > gate.max_drop
        for name, high in _OTHERS.items() if others else ():
            passes[name] += high(found.per_picture, rng) <= gate.max_drop
    share = {verdict: verdicts.count(verdict) / trials for verdict in Verdict}
    return Judged(
        passed=share[Verdict.PASS],
        failed=share[Verdict.FAIL],
        undecided=share[Verdict.UNDECIDED],
        surely_failed=sure / trials,
        other_passes={name: count / trials for name, count in passes.items()} if others else {},
    )


def scores_of(hits: NDArray[np.bool_]) -> TaskMetrics:
    """Score pictures of one person each, every joint of which is labelled."""
    distance = np.where(hits, 0.0, 2.0)
    return TaskMetrics(
        images=len(hits),
        persons=len(hits),
        metrics={PCK: float(hits.mean())},
        per_joint={},
        left_out={},
        per_person={PCK: JointHits(hits=hits, counted=np.ones_like(hits), distance=distance)},
        closeness={PCK: distance},
        oks=None,
        picture=np.arange(len(hits)),
    )


def _still(pictures: int) -> Parity:
    """Evidence of heatmaps in which nothing is wrong, so that the drop alone decides."""
    zeros = np.zeros(pictures, np.float32)
    drift = Drift(
        mean=0.0,
        p95=0.0,
        max=0.0,
        worst_image=0,
        agreement=1.0,
        agreement_pck={},
        per_image=zeros,
        per_joint=zeros[:JOINTS],
    )
    return Parity(
        images=pictures,
        heatmap_snr_db=math.inf,
        heatmap_max_abs=0.0,
        heatmap_relative_error=0.0,
        drift_px=drift,
        cell_px=8,
    )


def _t(values: NDArray[np.float64], rng: np.random.Generator) -> float:  # noqa: ARG001 - drawn by the others
    from scipy.special import stdtrit

    error = values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean() + stdtrit(values.size - 1, 0.975) * error)


def _drawn(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    weights = rng.multinomial(values.size, np.full(values.size, 1 / values.size), size=_RESAMPLES)
    drawn: NDArray[np.float64] = np.sort(weights @ values / values.size)
    return drawn


def _bootstrap(values: NDArray[np.float64], rng: np.random.Generator) -> float:
    return float(np.quantile(_drawn(values, rng), 0.975))


def _bca(values: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Bias-corrected and accelerated bootstrap (Efron, JASA 1987)."""
    from scipy.special import ndtr, ndtri

    drawn, centred = _drawn(values, rng), values - values.mean()
    below = np.clip((drawn < values.mean()).mean() + (drawn == values.mean()).mean() / 2, 1e-3, 1 - 1e-3)
    square = np.square(centred).sum()
    acceleration = (centred**3).sum() / (6 * square**1.5) if square > 0 else 0.0
    shifted = ndtri(below) + ndtri(0.975)
    return float(np.quantile(drawn, ndtr(ndtri(below) + shifted / (1 - acceleration * shifted))))


_OTHERS: Final[Mapping[str, Callable[[NDArray[np.float64], np.random.Generator], float]]] = {
    "t": _t,
    "bootstrap": _bootstrap,
    "BCa": _bca,
}


def measured(sizes: Sequence[int], *, budget: float, trials: int, seed: int) -> list[dict[str, Any]]:
    """Judge every world at every number of pictures: at no drop, at the budget, and at twice the budget."""
    gate, rows = Gate(max_drop=budget), []
    for name, world in WORLDS.items():
        for pictures in sizes:
            none, full, twice = (
                judged(world, pictures, drop, gate=gate, trials=trials, seed=seed, others=drop == budget)
                for drop in (0.0, budget, 2 * budget)
            )
            rows.append(
                {
                    "world": name,
                    "pictures": pictures,
                    "false_pass": full.passed,
                    "false_pass_by": dict(full.other_passes),
                    "false_pass_at_twice": twice.passed,
                    "pass_at_none": none.passed,
                    "false_fail": none.failed,
                    "sure_false_fail": none.surely_failed,
                    "sure_fail_at_budget": full.surely_failed,
                    "fail_at_twice": twice.failed,
                }
            )
    return rows


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay the shares out, in percent."""
    table = Table(box=box.MARKDOWN)
    table.add_column("losses", no_wrap=True)
    headings = ("pictures", "false pass", *(f"by {name}" for name in _OTHERS), "at twice the budget")
    for heading in (*headings, "pass at no drop", "false fail", "of these sure", "fail at twice"):
        table.add_column(heading, justify="right")
    for row in rows:
        others = [row["false_pass_by"][name] for name in _OTHERS]
        shares = [row["false_pass"], *others, row["false_pass_at_twice"], row["pass_at_none"]]
        shares += [row["false_fail"], row["sure_false_fail"], row["fail_at_twice"]]
        table.add_row(row["world"], str(row["pictures"]), *(f"{100 * share:.1f}" for share in shares))
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="How often the gate's verdict is wrong.")
    parser.add_argument("--trials", type=int, default=400, help="artifacts per world, number of pictures and drop")
    parser.add_argument("--pictures", default="32,128,256,400,1000", help="comma list of set sizes")
    parser.add_argument("--budget", type=float, default=1.0, help="points")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    sizes = [int(size) for size in options.pictures.split(",")]
    rows = measured(sizes, budget=options.budget, trials=options.trials, seed=options.seed)
    if options.json:
        Console().print_json(json.dumps(rows))
    else:
        Console(width=160).print(table_of(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
