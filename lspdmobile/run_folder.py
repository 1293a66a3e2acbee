"""What a run leaves: the files of its folder, and the parts of ``report.json`` that say how it was judged."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from pydantic import Field

from lspdmobile.artifact import sha256_of
from lspdmobile.environment import versions
from lspdmobile.errors import BadInputError
from lspdmobile.measuring import Reference
from lspdmobile.opening import write_student
from lspdmobile.parity import DEFAULT_CONFIDENCE, DropType, Gate
from lspdmobile.program import SUFFIX
from lspdmobile.report.files import Entry, read_file
from lspdmobile.report.html import write_html
from lspdmobile.report.markdown import write_markdown
from lspdmobile.report.model_card import write_model_card
from lspdmobile.report.pictures import WorstPicture
from lspdmobile.report.schema import GoldenEntry, Manifest, ManifestArtifact, Report, SkeletonEntry, file_entries
from lspdmobile.report.tables import metric_name
from lspdmobile.student import Student

__all__ = [
    "BUNDLED",
    "MANIFEST",
    "REPORT",
    "SIGNATURE",
    "EvaluationEntry",
    "GateEntry",
    "RunContents",
    "RunReport",
    "checkpoint_names",
    "read_run_report",
    "refuse_to_replace_others",
    "write_run",
]

BUNDLED: Final = "bundled pictures"
REPORT: Final = "report.json"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = f"{MANIFEST}.sig"
_GOLDEN: Final = "golden"
_WORST_SHOWN: Final = 6


class GateEntry(Entry):
    """The budget the artifacts were judged by, how sure the gate had to be, and the delegated share it asked for."""

    max_drop: float
    drop_type: DropType
    confidence: float = DEFAULT_CONFIDENCE
    min_delegated: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def of(cls, gate: Gate, min_delegated: Mapping[str, float]) -> Self:
        """Enter what a user sets of a gate, and of delegation."""
        return cls(
            max_drop=gate.max_drop,
            drop_type=gate.drop_type,
            confidence=gate.confidence,
            min_delegated=dict(min_delegated),
        )

    def gate(self) -> Gate:
        """Give the gate again."""
        return Gate(max_drop=self.max_drop, drop_type=self.drop_type, confidence=self.confidence)


class EvaluationEntry(Entry):
    """How the evaluation pictures were drawn and the artifacts executed; ``samples`` is null for all pictures."""

    samples: int | None
    seed: int
    threads: int


class RunReport(Report):
    """``report.json`` of an export, which can be judged again."""

    schema_version: Literal[1] = 1
    not_taken: tuple[str, ...] = ()
    gate: GateEntry
    evaluation: EvaluationEntry


def read_run_report(run: Path) -> RunReport:
    """Read the report of a run folder.

    Raises:
        BadInputError: It is missing, damaged or lacks a key.
    """
    return read_file(run / REPORT, RunReport, version=1)


@dataclass(frozen=True, kw_only=True)
class RunContents:
    """What is written beside the artifacts.

    Attributes:
        report: Goes to ``report.json``, ``report.html``, ``report.md`` and, with the student, ``MODEL_CARD.md``.
        fusion: Goes to ``fusion.json``: certificates.
        artifacts: Goes to ``manifest.json``.
        worst: Candidates for the pictures of the HTML page.
        reference: Gives the student, and the golden pair.
        calibration_sha256: Hash of the calibration pictures.
    """

    report: RunReport
    fusion: Mapping[str, Any]
    artifacts: tuple[ManifestArtifact, ...]
    worst: Sequence[WorstPicture]
    reference: Reference
    calibration_sha256: str


def checkpoint_names(student: str) -> tuple[str, str]:
    """Give the names that the float student's file may have in a run folder: of ours, and of any other network."""
    return f"{student}.safetensors", f"{student}{SUFFIX}"


def refuse_to_replace_others(target: Path, *, marker: str) -> None:
    """Let ``--overwrite`` remove what an earlier run left, and nothing else.

    Args:
        target: Folder to be replaced.
        marker: File that only such a run leaves.

    Raises:
        BadInputError: Something else is there.
    """
    if target.exists() and not (target.is_dir() and ((target / marker).is_file() or not any(target.iterdir()))):
        message = f"{target}: is not the folder of an earlier run, so it is not replaced; choose another --output-dir"
        raise BadInputError(message)


def write_run(folder: Path, contents: RunContents) -> None:
    """Write everything but artifacts and plans, which are there already; the manifest, with all hashes, last."""
    student, report = contents.reference.student, contents.report
    write_student(student, folder / _checkpoint_name(student))
    _write_json(folder / "fusion.json", contents.fusion)
    report.write(folder / REPORT)
    worst = sorted(contents.worst, key=lambda shown: -shown.drift_px)[:_WORST_SHOWN]
    budget = _budget(report)
    write_html(folder / "report.html", report, worst=worst, budget=budget)
    write_markdown(folder / "report.md", report, budget=budget)
    write_model_card(folder / "MODEL_CARD.md", report, student)
    golden = _write_golden(folder, contents.reference)
    _manifest(folder, contents, golden).write(folder / MANIFEST)


def _budget(report: RunReport) -> float | None:
    """Give the largest drop that passes, in points; None where there is no metric to lose."""
    metric = report.reference.metrics.get(metric_name(report))
    if metric is None:
        return None
    relative = report.gate.drop_type is DropType.RELATIVE
    return report.gate.max_drop * (metric if relative else 1)


def _manifest(folder: Path, contents: RunContents, golden: GoldenEntry) -> Manifest:
    student = contents.reference.student
    return Manifest(
        student=student.name,
        checkpoint_sha256=student.sha256 or sha256_of(folder / _checkpoint_name(student)),
        contract=student.contract.to_dict(),
        skeleton=SkeletonEntry.of(student.skeleton),
        decode_rule=student.decode_rule,
        artifacts=contents.artifacts,
        golden=golden,
        versions=versions(),
        seed=contents.report.evaluation.seed,
        calibration_sha256=contents.calibration_sha256,
        evaluation_sha256=contents.reference.views.sha256(),
        files=file_entries(folder, _names(folder)),
    )


def _checkpoint_name(student: Student) -> str:
    return checkpoint_names(student.name)[student.config is None]


def _names(folder: Path) -> Iterable[str]:
    """List what has a hash: the golden files one by one, every other entry as a whole."""
    for path in folder.iterdir():
        if path.name == _GOLDEN:
            yield from (f"{_GOLDEN}/{inner.name}" for inner in path.iterdir())
        else:
            yield path.name


def _write_golden(folder: Path, reference: Reference) -> GoldenEntry:
    """Write the first evaluation picture as a network input, and the float student's keypoints in input pixels."""
    (folder / _GOLDEN).mkdir()
    entry = GoldenEntry(input=f"{_GOLDEN}/input.npy", expected=f"{_GOLDEN}/expected.json")
    np.save(folder / entry.input, reference.views.inputs(0, 1))
    points = reference.keypoints(reference.heatmaps, 0)
    expected = {
        "picture": reference.views.names[0],
        "keypoints": [[round(float(v), 4) for v in row] for row in points],
        "columns": ["x", "y", "score"],
        "unit": "input pixels",
    }
    _write_json(folder / entry.expected, expected)
    return entry


def _write_json(path: Path, fields: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
