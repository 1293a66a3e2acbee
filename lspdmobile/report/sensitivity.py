"""What ``lspdmobile sensitivity`` found, as the file it writes, and as rows and lines for people."""

from typing import Final, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from lspdmobile.report.files import Entry, File, Number
from lspdmobile.report.tables import MISSING, decibels, points, size

__all__ = ["SENSITIVITY", "PartEntry", "SensitivityReport", "cause_lines", "sensitivity_table"]

SENSITIVITY: Final = "sensitivity.json"
_CAUSES_SHOWN: Final = 5


class PartEntry(Entry):
    """Operators that could stay in float together, and what they cost.

    ``kind`` is operator, tensor (whoever makes and whoever reads it) or block (a module's operators), ``units`` the
    operators by the names of a plan's ``kept_float``. ``alone`` says that only they are integer, ``left_out`` that only
    they are float. ``share`` is their noise alone, ``gain`` what goes when they are left out, both over the integer
    network's noise. Drops are null where the metric was not measured.
    """

    name: str
    kind: Literal["operator", "tensor", "block"]
    units: tuple[str, ...]
    extra_bytes: int
    snr_alone_db: float
    snr_left_out_db: float
    share: float
    gain: float
    cause: str
    drop_alone: Number = None
    drop_left_out: Number = None

    @property
    def matters(self) -> bool:
        """Whether it makes, or could take away, a hundredth of the noise."""
        return max(self.share, self.gain) >= 0.01


class SensitivityReport(File):
    """``sensitivity.json``: the parts of an int8 network, worst first.

    ``key`` is a hash of network, plan, pictures and labels: what was measured under another key is not reused.
    ``reused`` of the ``evaluations`` on the metric were read from an earlier file. ``drop`` is the integer network's.
    """

    schema_version: Literal[1] = 1
    key: str
    student: str
    target: str
    calibration: str
    data: str
    pictures: int
    estimator: str
    operators: int
    weight_bytes: int
    snr_db: float
    metric: str | None = None
    float_value: Number = None
    drop: Number = None
    screening_runs: int
    evaluations: int = 0
    reused: int = 0
    parts: tuple[PartEntry, ...]


def sensitivity_table(report: SensitivityReport, *, everything: bool) -> Table:
    """Lay the parts out, worst first; those that hardly matter only where everything is asked for."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("part", overflow="fold")
    table.add_column("kind", no_wrap=True)
    drop = f"{report.metric or 'metric'} drop"
    for heading in ("SNR dB\nalone", "SNR dB\nleft out", f"{drop}\nalone", f"{drop}\nleft out", "weights\ngrow by"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in report.parts:
        if everything or part.matters:
            table.add_row(
                Text(part.name),
                part.kind,
                decibels(part.snr_alone_db),
                decibels(part.snr_left_out_db),
                points(part.drop_alone),
                points(part.drop_left_out),
                size(part.extra_bytes) if part.extra_bytes else MISSING,
            )
    return table


def cause_lines(report: SensitivityReport) -> list[str]:
    """Sum up in a line, then say why the worst parts are noisy, each reason once."""
    before = "" if report.drop is None else f", {report.metric} drops by {points(report.drop)} points"
    hidden = f"{sum(not part.matters for part in report.parts)} of {len(report.parts)}"
    lines = [
        f"{report.student} w8a8 for {report.target}, {report.operators} operators: SNR {decibels(report.snr_db)} dB"
        f"{before}; {report.screening_runs} runs on calibration pictures, {report.evaluations} on {report.pictures} "
        f"evaluation pictures ({report.reused} reused); {hidden} parts make under 1% of the noise"
    ]
    causes: dict[str, str] = {}
    for part in report.parts:
        if part.matters:
            causes.setdefault(part.cause, part.name)
    return lines + [f"  {name}: {cause}" for cause, name in list(causes.items())[:_CAUSES_SHOWN]]
