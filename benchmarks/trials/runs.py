"""Runs: one arm with one seed, trained, scored and written down as a line of JSON.

A run that was killed goes on from its checkpoint, a run that is written down is not done again, and a run that another
process has in hand is left to it.
"""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.trials.arms import Arm
from lspdmobile.data.coco import read_labelled_set
from lspdmobile.skeleton import Skeleton
from lspdmobile.student import Student
from lspdmobile.train.job import run_job
from lspdmobile.train.loop import LOG, StepReport
from lspdmobile.train.samples import labelled_samples
from lspdmobile.train.scores import joint_hits, keypoints

__all__ = ["RESULTS", "Result", "read_results", "run_once"]

RESULTS: Final = "results.jsonl"
_SIDES: Final = ("left_", "right_")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run came to; accuracies are fractions of the labelled val joints, with the flip test.

    Attributes:
        run: Name of the run, which says its configuration.
        arm, seed: What was run.
        metrics: ``pck@0.2`` and ``pckh@0.5`` of what ships.
        joints: ``pck@0.2`` by kind of joint, left and right together.
        teacher: ``pck@0.2`` of what taught online, without the flip test; None where nothing did.
        branch: Which candidate shipped.
        curve: The run's log: step, epoch, loss and validation figures.
        seconds: Spent training and validating, over all starts.
        pictures_per_second: Of training, at the last start.
    """

    run: str
    arm: str
    seed: int
    metrics: dict[str, float]
    joints: dict[str, float]
    teacher: float | None
    branch: int
    curve: list[dict[str, float]]
    seconds: float
    pictures_per_second: float


def read_results(folder: Path) -> dict[str, Result]:
    """Read what is written down, by run; a line that a kill cut off is passed over."""
    found: dict[str, Result] = {}
    file = folder / RESULTS
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            result = Result(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[result.run] = result
    return found


def run_once(arm: Arm, seed: int, *, data: Path, folder: Path) -> Result | None:
    """Train and score one run, or read what it came to; None where another process has it in hand."""
    name = arm.run_name(seed)
    place = folder / "runs" / name
    place.mkdir(parents=True, exist_ok=True)
    with _alone(place) as alone:
        if not alone:
            return None
        done = read_results(folder).get(name)
        if done is not None:
            return done
        result = _trained(arm, seed, data=data, place=place)
        with (folder / RESULTS).open("a", encoding="utf-8") as stream:
            # A leading line break ends a line that a kill cut off.
            stream.write("\n" + json.dumps(asdict(result)) + "\n")
    return result


@contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Hold the run's lock, which the system lets go when the process ends, however it ends."""
    with (place / "lock").open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _trained(arm: Arm, seed: int, *, data: Path, place: Path) -> Result:
    clock, speed = _Clock(place / "seconds"), [0.0]

    def on_step(report: StepReport) -> None:
        speed[0] = report.pictures_per_second
        clock.tick(keep=report.step % 50 == 0 or report.step == report.total)

    config = arm.seeded(seed)
    trained = run_job(config, data=data, folder=place, device="cpu", progress=lambda *_: None, on_step=on_step)
    metrics, joints = _scored(trained.student, data / config.data.val)
    log = (place / LOG).read_text(encoding="utf-8").splitlines()
    return Result(
        run=arm.run_name(seed),
        arm=arm.name,
        seed=seed,
        metrics=metrics,
        joints=joints,
        teacher=trained.student.metrics["val"].get("teacher pck@0.2"),
        branch=int(trained.student.provenance["branch"]),
        curve=[json.loads(line) for line in log],
        seconds=round(clock.seconds, 1),
        pictures_per_second=round(speed[0], 1),
    )


class _Clock:
    """Seconds spent, kept in a file across starts."""

    def __init__(self, file: Path) -> None:
        self.file, self.before = file, time.perf_counter()
        self.seconds = float(file.read_text(encoding="utf-8")) if file.is_file() else 0.0

    def tick(self, *, keep: bool) -> None:
        now = time.perf_counter()
        self.seconds, self.before = self.seconds + now - self.before, now
        if keep:
            self.file.write_text(f"{self.seconds}\n", encoding="utf-8")


def _scored(student: Student, labels: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Give the metrics over all joints, and PCK by kind of joint."""
    held = labelled_samples(read_labelled_set(labels), student.contract)
    found = keypoints(student.network, lambda maps: [maps], held, student.contract, student.skeleton, flip_test=True)
    hits = joint_hits(found[0], held)
    metrics = {key: round(float(hit[judged].mean()), 5) for key, (hit, judged) in hits.items()}
    return metrics, _by_kind(*hits["pck@0.2"], student.skeleton)


def _by_kind(hit: Any, judged: Any, skeleton: Skeleton) -> dict[str, float]:
    kinds: dict[str, list[int]] = {}
    for joint, name in enumerate(skeleton.keypoints):
        kind = next((name.removeprefix(side) for side in _SIDES if name.startswith(side)), name)
        kinds.setdefault(kind, []).append(joint)
    return {
        kind: round(float(hit[:, joints][judged[:, joints]].mean()), 5)
        for kind, joints in kinds.items()
        if np.any(judged[:, joints])
    }
