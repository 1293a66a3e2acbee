"""Files with a mistake in a copy of a sound run, listed with hashes that hold, and what ``lspdmobile verify`` says."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.faults.kinds import FAULTS, faulty
from benchmarks.mutations.world import listed, silent
from converters import emitter
from lspdmobile.artifact import EmitRequest, sha256_of, size_in_bytes
from lspdmobile.artifact_metadata import metadata_of
from lspdmobile.calibrating import Calibrator
from lspdmobile.choices import Estimator, Format, Precision
from lspdmobile.errors import LspdmobileError
from lspdmobile.picture_sets import pictures_of
from lspdmobile.preparing import prepared
from lspdmobile.request import ExportRequest, pairs_of
from lspdmobile.run_folder import MANIFEST
from lspdmobile.student import Student
from lspdmobile.verify import verify

__all__ = ["Planted", "exchange", "plant", "tried"]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One mistake in one file.

    Attributes:
        fault: Its name.
        file: The sound file that was exchanged.
        caught: Whether the gate failed it.
        rules: The first words of each reason.
        cause: What was named.
        right: Whether that is what it is.
        sentence: What was said.
    """

    fault: str
    file: str
    caught: bool
    rules: tuple[str, ...]
    cause: str
    right: bool
    sentence: str


def plant(fault: str, student: Student, request: ExportRequest, folder: Path) -> dict[tuple[Format, Precision], Path]:
    """Write the files of a request from a student's network with a mistake, described as the student's own.

    Args:
        fault: One of :data:`benchmarks.faults.kinds.FAULTS`.
        student: The sound one.
        request: Formats, precisions and calibration pictures; its output folder is not touched.
        folder: Where the files go; exists.

    Returns:
        File of each pair; those a converter refuses are left out.
    """
    wrong = replace(student, network=faulty(fault, student), config=None, program=None, made_by="a mistake")
    wanted = replace(request, student=wrong, methods=())
    pairs, _ = pairs_of(wanted)
    evaluation, calibration = pictures_of(wanted)
    calibrator = Calibrator(calibration, Estimator.MIN_MAX, silent)
    sources = prepared(wanted, pairs, torch.from_numpy(evaluation.inputs(0, 2)), calibrator, silent)
    written: dict[tuple[Format, Precision], Path] = {}
    for (form, precision), source in sources.items():
        converter = emitter(form, wanted.backend)
        path = folder / f"{fault.replace(' ', '_')}_{precision.file_suffix}{converter.SUFFIX}"
        emission = EmitRequest(
            network=source.network,
            plan=source.plan,
            input_size=student.contract.input_size,
            layout=converter.supported()[precision],
            metadata=metadata_of(student),
            deployment_target=wanted.deployment_target,
            path=path,
            calibration=calibration,
        )
        try:
            converter.emit(emission)
        except LspdmobileError:
            continue
        written[form, precision] = path
    return written


def exchange(run: Path, name: str, file: Path) -> None:
    """Put a file in the place of a run's, and let the manifest list its hash."""
    target = run / name
    if target.is_dir():
        shutil.rmtree(target)
        shutil.copytree(file, target)
    else:
        shutil.copy(file, target)
    manifest: Any = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": sha256_of(target), "bytes": size_in_bytes(target)}
    (run / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def tried(run: Path, student: Student, request: ExportRequest, folder: Path, faults: Sequence[str]) -> list[Planted]:
    """Plant mistakes in every file of a run and have all of them verified at once.

    Args:
        run: A sound run of the student; not touched.
        student: Whose run it is.
        request: What it was made by.
        folder: Where everything goes; exists.
        faults: Names of mistakes.

    Raises:
        RuntimeError: A sound file of the run does not pass.
    """
    copy = Path(shutil.copytree(run, folder / "planted"))
    sound = {(a["format"], a["precision"]): a["file"] for a in _read(run / "report.json")["artifacts"]}
    added: dict[str, tuple[str, str]] = {}
    for fault in faults:
        for (form, precision), path in plant(fault, student, request, folder).items():
            shutil.move(path, copy / path.name)
            added[path.name] = (fault, sound[form.value, precision.value])
    listed(copy, {name: file for name, (_, file) in added.items()})
    entries = {entry.file: entry for entry in verify(copy, silent).report.artifacts}
    if wrong := [f"{name}: {entries[name].reasons}" for name in sound.values() if entries[name].verdict != "pass"]:
        message = f"sound files do not pass: {wrong}"
        raise RuntimeError(message)
    return [_planted(fault, file, entries[name]) for name, (fault, file) in added.items()]


def _planted(fault: str, file: str, entry: Any) -> Planted:
    found = entry.diagnosis
    return Planted(
        fault=fault,
        file=file,
        caught=entry.verdict == "fail",
        rules=tuple(dict.fromkeys(_rule(reason) for reason in entry.reasons)),
        cause=found.cause if found else "",
        right=bool(found) and found.cause in FAULTS[fault].causes,
        sentence=found.sentence if found else "; ".join(entry.reasons),
    )


_RULES: Final[Mapping[str, str]] = {
    "95% of the joints": "drift",
    "all joints together": "shift",
    "heatmaps differ by": "heatmaps",
    "beside the plan's": "plan",
    "it is not what the plan": "plan",
    "pck": "drop",
    "oks": "drop",
}


def _rule(reason: str) -> str:
    return next((rule for start, rule in _RULES.items() if reason.startswith(start)), "refused")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
