"""What differs between two runs, or between two artifacts, in words and numbers.

Timings are left out: between two runs they say more about the machine than about the files.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lspdmobile.artifact import ArtifactFacts
from lspdmobile.report.schema import ArtifactEntry, Report
from lspdmobile.report.tables import MISSING, decibels, fraction, pixels, points, size

__all__ = ["Difference", "between_artifacts", "between_reports"]

_ABSENT: Final = "absent"
_DETAILS: Final = {"per_joint", "per_condition"}
_DIGEST: Final = 12


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that is not the same.

    Attributes:
        where: ``student``, ``environment``, or an artifact such as ``tflite w8a8``.
        what: The field.
        before, after: JSON-able values; None where it is not there.
        text: Both as people read them.
    """

    where: str
    what: str
    before: Any
    after: Any
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Give the difference as JSON-able values."""
        return {"where": self.where, "what": self.what, "before": self.before, "after": self.after}


def between_reports(before: Report, after: Report) -> list[Difference]:
    """Compare what two runs were made from, judged on and what they gave, artifact by artifact."""
    found: list[Difference] = []
    for where in ("student", "reference"):
        found += _fields(where, *(getattr(r, where).model_dump(mode="json", exclude=_DETAILS) for r in (before, after)))
    found += _fields("calibration", *map(_calibration, (before, after)))
    found += _fields("environment", before.environment, after.environment)
    entries = [{entry.label: entry for entry in report.artifacts} for report in (before, after)]
    for label in dict.fromkeys([*entries[0], *entries[1]]):
        found += _artifacts(label, *(each.get(label) for each in entries))
    found += _fields("run", {"verdict": before.verdict.value}, {"verdict": after.verdict.value})
    return found


def between_artifacts(before: ArtifactFacts, after: ArtifactFacts, sizes: tuple[int, int]) -> list[Difference]:
    """Compare what two files hold.

    Args:
        before: What was read from one.
        after: What was read from the other.
        sizes: Their bytes.
    """
    found = list(_grown("file", "bytes", *sizes))
    for what in ("inputs", "outputs"):
        told = ([f"{t.name} {t.dtype}{list(t.shape)}" for t in getattr(facts, what)] for facts in (before, after))
        found += _fields("file", *({what: each} for each in told))
    found += _sizes("weights", before.weight_bytes_by_dtype, after.weight_bytes_by_dtype)
    found += _sizes("other files", before.elsewhere, after.elsewhere)
    found += _fields("operators", before.ops, after.ops)
    found += _fields("parts", *({part.name: part.kind for part in facts.parts} for facts in (before, after)))
    found += _fields("delegation", *(_delegated(facts.delegation) for facts in (before, after)))
    found += _fields("metadata", before.metadata, after.metadata)
    return found


def _calibration(report: Report) -> dict[str, Any]:
    entry = report.calibration
    if entry is None:
        return {}
    return {"pictures": entry.pictures, "source": entry.source, "estimator": entry.estimator.value}


def _artifacts(label: str, before: ArtifactEntry | None, after: ArtifactEntry | None) -> Iterator[Difference]:
    if before is None or after is None:
        old, new = (None if each is None else each.file for each in (before, after))
        yield _difference(label, "file", old, new)
        return
    if before.verdict is not after.verdict:
        text = f"{before.verdict} -> {after.verdict}: {'; '.join(after.reasons)}"
        yield _difference(label, "verdict", before.verdict.value, after.verdict.value, text=text)
    if before.sha256 != after.sha256 and before.bytes == after.bytes:
        digests = [(each.sha256 or "")[:_DIGEST] for each in (before, after)]
        yield _difference(label, "sha256", before.sha256, after.sha256, text=f"{digests[0]}… -> {digests[1]}…")
    yield from _grown(label, "bytes", before.bytes, after.bytes)
    yield from _sizes(label, before.weight_bytes_by_dtype, after.weight_bytes_by_dtype)
    plain = ("params", "macs", "layout", "target", "backend", "kept_fp32", "executed_by")
    entries = (each.model_dump(mode="json") for each in (before, after))
    yield from _fields(label, *({name: entry[name] for name in plain} for entry in entries))
    yield from _fields(label, *(_delegated(each.delegation) for each in (before, after)))
    yield from _parity(label, before, after)


def _parity(label: str, before: ArtifactEntry, after: ArtifactEntry) -> Iterator[Difference]:
    for (what, old, show), (_, new, _) in zip(_measured(before), _measured(after), strict=True):
        if old != new:
            yield _difference(label, what, old, new, text=f"{show(old)} -> {show(new)}")


def _measured(entry: ArtifactEntry) -> list[tuple[str, float | None, Callable[[float | None], str]]]:
    parity = entry.parity
    metric = parity.metric if parity else None
    return [
        ("metric", metric.artifact if metric else None, fraction),
        ("drop, points", metric.drop if metric else None, points),
        ("heatmap SNR, dB", parity.heatmap_snr_db if parity else None, decibels),
        ("drift p95, px", parity.drift_px.p95 if parity else None, pixels),
    ]


def _delegated(delegation: Any) -> dict[str, Any]:
    if delegation is None:
        return {}
    left = list(delegation.not_delegated)
    return {"delegated operators": f"{delegation.delegated} of {delegation.total}", "not delegated": left}


def _fields(where: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for what in dict.fromkeys([*before, *after]):
        old, new = before.get(what), after.get(what)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _fields(f"{where} {what}", old, new)
        elif old != new:
            yield _difference(where, what, old, new)


def _sizes(where: str, before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[Difference]:
    for dtype in dict.fromkeys([*before, *after]):
        yield from _grown(where, f"{dtype} weights", before.get(dtype), after.get(dtype))


def _grown(where: str, what: str, before: int | None, after: int | None) -> Iterator[Difference]:
    if before == after:
        return
    share = f" ({100 * (after - before) / before:+.1f}%)" if before and after is not None else ""
    yield _difference(where, what, before, after, text=f"{size(before)} -> {size(after)}{share}")


def _difference(where: str, what: str, before: Any, after: Any, text: str = "") -> Difference:
    return Difference(
        where=where, what=what, before=before, after=after, text=text or f"{_said(before)} -> {_said(after)}"
    )


def _said(value: Any) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or MISSING
    return f"{value:g}" if isinstance(value, float) else str(value)
