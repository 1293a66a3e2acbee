"""Plant faults in the packages of a run, have ``verify`` judge them, and count what it found."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.mutations.effect import Effect, Sound
from benchmarks.mutations.kinds import KINDS
from benchmarks.mutations.package import Package
from benchmarks.mutations.world import exported, listed, silent
from lspdmobile.choices import Verdict
from lspdmobile.data.views import load_views
from lspdmobile.measuring import network_heatmaps
from lspdmobile.report.schema import ArtifactEntry
from lspdmobile.run_folder import RunReport, checkpoint_names, read_run_report
from lspdmobile.student import load_student
from lspdmobile.verify import verify

__all__ = ["Outcome", "Place", "Planted", "Trial", "places", "plant", "trial_of_everything"]

_RARE: Final = ("scale", "zero point", "palette", "inputs swapped: sub", "axis", "pad: content", "epsilon")
_OFTEN: Final = 5
_PLAN_REASONS: Final = ("beside the plan's", "it is not what the plan")


class Outcome(StrEnum):
    """What became of a fault."""

    REFUSED = "refused"
    CAUGHT = "caught"
    HARMLESS = "harmless, passed"
    AT_THE_LIMIT = "at the limit"
    MISSED = "missed"
    FALSE_ALARM = "false alarm"


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One fault.

    Attributes:
        package: Name of the package it was planted in.
        kind, where: What was changed.
        effect: What it changes, found without ``verify``.
        entry: What ``verify`` said of it.
    """

    package: str
    kind: str
    where: str
    effect: Effect
    entry: ArtifactEntry

    @property
    def outcome(self) -> Outcome:
        """What became of it: refused faults were never judged, all others were executed."""
        failed = self.entry.verdict is Verdict.FAIL
        if failed and self.entry.parity is None:
            return Outcome.REFUSED
        if self.effect.above:
            return Outcome.CAUGHT if failed else Outcome.MISSED
        if self.effect.below:
            return Outcome.FALSE_ALARM if failed else Outcome.HARMLESS
        return Outcome.AT_THE_LIMIT

    @property
    def by_the_plan_alone(self) -> bool:
        """Whether drift, drop and heatmap error alone would have let it pass."""
        caught = self.outcome is Outcome.CAUGHT
        return caught and all(reason.startswith(_PLAN_REASONS) for reason in self.entry.reasons)

    def __str__(self) -> str:
        reason = self.entry.reasons[0] if self.entry.reasons else ""
        return f"{self.package}: {self.kind} ({self.where}): {self.effect.share:.3g} of the limit: {reason}"


Place = tuple[str, str]
"""A package's file name and a kind of fault."""


def places(run: Path) -> list[Place]:
    """Name every package of a run with every kind; several times those that few packages have a place for."""
    files = [entry.file for entry in read_run_report(run).artifacts]
    return [(file, kind) for file in files for kind in KINDS for _ in range(_OFTEN if kind.startswith(_RARE) else 1)]


def plant(package: Path, kind: str, target: Path, rng: np.random.Generator) -> str | None:
    """Copy a package with one fault in it; gives where it is, or None where the package has no such place."""
    shutil.copytree(package, target)
    opened = Package(target)
    where = KINDS[kind](opened, rng)
    if where is None:
        shutil.rmtree(target)
    else:
        opened.save()
    return where


class Trial:
    """A run in whose copy faults are planted, all judged by one call of ``verify``.

    Args:
        run: The sound run.
        folder: Where its copy goes; does not exist.
        seed: Of where faults are planted.
    """

    def __init__(self, run: Path, folder: Path, *, seed: int) -> None:
        self._run = Path(shutil.copytree(run, folder))
        self._rng = np.random.default_rng(seed)
        self._report = read_run_report(run)
        self._planted: dict[str, tuple[str, str, str]] = {}

    def plant(self, chosen: Sequence[Place], *, most: int | None = None) -> None:
        """Plant a fault in each place that a package has, at most so many, and list it with its own hash."""
        for file, kind in chosen:
            if most is not None and len(self._planted) >= most:
                break
            name = f"{len(self._planted):04}_{file}"
            where = plant(self._run / file, kind, self._run / name, self._rng)
            if where is not None:
                self._planted[name] = (file, kind, where)
        listed(self._run, {name: file for name, (file, _, _) in self._planted.items()})

    def judged(self) -> list[Planted]:
        """Verify the run.

        Raises:
            RuntimeError: A hash does not hold, or an unchanged package does not pass: then nothing is proven.
        """
        found = verify(self._run, silent)
        entries = {entry.file: entry for entry in found.report.artifacts}
        unsound = [entry.file for entry in self._report.artifacts if entries[entry.file].verdict is not Verdict.PASS]
        if found.tampered or unsound:
            message = f"the run itself does not hold: {found.tampered or unsound}"
            raise RuntimeError(message)
        sound = _sound(self._run, self._report)
        return [
            Planted(
                package=file,
                kind=kind,
                where=where,
                effect=sound[file].effect(self._run / name),
                entry=entries[name],
            )
            for name, (file, kind, where) in self._planted.items()
        ]


def _sound(run: Path, report: RunReport) -> dict[str, Sound]:
    student = load_student(str(run / checkpoint_names(report.student.name)[0]))
    views = load_views(Path(report.reference.data), student.contract, student.skeleton)
    expected = network_heatmaps(student.network, views, "float", silent)
    return {a.file: Sound(run / a.file, a.precision, views.inputs(), expected) for a in report.artifacts}


def trial_of_everything(folder: Path, students: Sequence[str], *, seed: int) -> list[Planted]:
    """Export students and plant every kind of fault in every package of theirs.

    Args:
        folder: Where everything goes; exists.
        students: Names in :data:`benchmarks.mutations.world.CONFIGS`.
        seed: Of where faults are planted.
    """
    planted = []
    for name in students:
        run = exported(folder, name)
        trial = Trial(run, folder / f"{name}_planted", seed=seed)
        trial.plant(places(run))
        planted += trial.judged()
    return planted
