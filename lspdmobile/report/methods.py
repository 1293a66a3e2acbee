"""What quantization methods did to a run's networks, as part of ``report.json`` and as lines."""

from lspdmobile.report.files import Entry, Number

__all__ = ["MethodEntry", "method_lines"]


class MethodEntry(Entry):
    """One method on the network of some artifacts.

    ``before_db`` and ``after_db`` are the signal-to-noise ratio of the quantized heatmaps over calibration pictures.
    ``kept`` says whether its work was kept, and ``reason`` why not where it is not that it did harm.
    """

    artifacts: tuple[str, ...]
    method: str
    before_db: Number
    after_db: Number
    kept: bool
    reason: str = ""


def method_lines(entries: tuple[MethodEntry, ...]) -> list[str]:
    """Give a line for the artifacts of each network: ``methods, tflite w8a8: rounding 26.1 -> 27.9 dB, ...``."""
    of: dict[tuple[str, ...], list[str]] = {}
    for entry in entries:
        of.setdefault(entry.artifacts, []).append(_done(entry))
    return [f"methods, {', '.join(artifacts)}: {', '.join(done)}" for artifacts, done in of.items()]


def _done(entry: MethodEntry) -> str:
    change = f"{_shown(entry.before_db)} -> {_shown(entry.after_db)} dB"
    return f"{entry.method} {change}" if entry.kept else f"{entry.method} not used ({entry.reason or change})"


def _shown(decibels: float | None) -> str:
    return "∞" if decibels is None else f"{decibels:.1f}"
