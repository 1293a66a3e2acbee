"""``MODEL_CARD.md``: what a student is, what it was made from, what was measured of its files, and what was not.

Nothing is filled in: what neither the student's file nor the run says is ``not stated``.
"""

from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from lspdmobile.report.markdown import bullets, plain, table
from lspdmobile.report.tables import MISSING, amount, fraction, metric_name, points, size
from lspdmobile.report.verdicts import caveat_lines

if TYPE_CHECKING:
    from lspdmobile.report.schema import ArtifactEntry, Report
    from lspdmobile.student import Student

__all__ = ["render_model_card", "teacher_of", "write_model_card"]

_NOT_STATED: Final = "not stated"
_MOST_FACTS: Final = 40


def write_model_card(path: Path, report: "Report", student: "Student") -> None:
    """Write the model card of a run's student."""
    path.write_text(render_model_card(report, student), encoding="utf-8")


def render_model_card(report: "Report", student: "Student") -> str:
    """Give the model card as Markdown."""
    sections = (
        [f"# Model card: {plain(student.name)}"],
        table(("", "what its file says"), _summary(report, student), words=True),
        ["## Input", "", *table(("preprocess contract", "value"), student.contract.to_dict().items(), words=True)],
        ["## Training", "", *_training(student)],
        ["## Metrics the student came with", "", *_metrics(student)],
        ["## Files of this run", "", *_files(report)],
        ["## Limits of what was measured", "", *bullets(list(_limits(report, student)), most=_MOST_FACTS)],
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def teacher_of(provenance: Mapping[str, Any]) -> str:
    """Name the teacher that a training recipe of ours learnt from: keypoint file or network; empty where none is."""
    recipe = provenance.get("recipe")
    for part, key in (("data", "teacher"), ("offline", "network")):
        inside = recipe.get(part) if isinstance(recipe, Mapping) else None
        named = inside.get(key) if isinstance(inside, Mapping) else None
        if isinstance(named, str) and named:
            return PurePath(named).name
    return ""


def _summary(report: "Report", student: "Student") -> Iterator[tuple[str, str]]:
    rows, columns = student.contract.input_size
    yield "task", f"{student.skeleton.count} joints of one person in a crop ({student.skeleton.name})"
    yield "joints", ", ".join(name.replace("_", " ") for name in student.skeleton.keypoints)
    yield "input", f"one crop of {rows} rows and {columns} columns, 3 channels ({student.contract.colour_order})"
    yield "output", f"decoded by {student.decode_rule}"
    yield "size", f"{report.student.params:,} parameters, {amount(report.student.macs)} multiply-accumulates"
    yield "architecture", student.architecture or _NOT_STATED
    yield "made by", student.made_by or ("lspdmobile" if student.config is not None else _NOT_STATED)
    yield "licence of the weights", student.licence or _NOT_STATED
    yield "teacher", teacher_of(student.provenance) or _NOT_STATED
    yield "sha256 of the checkpoint", student.sha256 or _NOT_STATED


def _training(student: "Student") -> list[str]:
    known = list(_flat(student.provenance))
    if not known:
        return [f"Data and recipe: {_NOT_STATED}."]
    left = len(known) - _MOST_FACTS
    more = ["", f"{left} more are in the metadata of the float file."] if left > 0 else []
    return [*table(("provenance", "value"), known[:_MOST_FACTS], words=True), *more]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Give nested values by their dotted names; those of the last training first."""
    nested = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            nested.append((f"{prefix}{key}.", value))
        elif value not in (None, "", [], ()):
            yield f"{prefix}{key}", value
    for name, inside in nested:
        yield from _flat(inside, name)


def _metrics(student: "Student") -> list[str]:
    """Lay the student's own metrics out by set, one row per set."""
    sets = {
        name: {key: float(value) for key, value in values.items() if isinstance(value, Real)}
        for name, values in student.metrics.items()
        if isinstance(values, Mapping)
    }
    if not any(sets.values()):
        return [f"{_NOT_STATED.capitalize()}."]
    names = [name for name in sets if "per joint" not in name]
    columns = list(dict.fromkeys(key for name in names for key in sets[name]))
    rows = [(name, *(fraction(sets[name].get(column)) for column in columns)) for name in names]
    return ["From its file, not measured again in this run.", "", *table(("set", *columns), rows)]


def _files(report: "Report") -> list[str]:
    headings = ("file", "size", "executed by", metric_name(report), "drop in points", "verdict")
    return table(headings, map(_file, report.artifacts))


def _file(artifact: "ArtifactEntry") -> tuple[str, ...]:
    metric = artifact.parity.metric if artifact.parity is not None else None
    value, drop = (fraction(metric.artifact), points(metric.drop)) if metric is not None else (MISSING, MISSING)
    executed = artifact.executed_by or MISSING
    return artifact.file, size(artifact.bytes), executed, value, drop, artifact.verdict.value


def _limits(report: "Report", student: "Student") -> Iterator[str]:
    reference = report.reference
    yield f"Judged on {reference.images} pictures ({reference.data}); other pictures may lose more."
    if not reference.metrics:
        yield "There were no labels: what was measured is that files and student agree, not that either is right."
    yield "Times were taken on the machine of the export, not on a phone."
    yield from caveat_lines(report)
    if not student.provenance:
        yield "What it was trained on is not stated, so neither is whose bodies it serves worse."
    yield "One person per crop; somebody else has to find the person."
