"""What ``export`` and ``demo`` print when they are done, and the exit code the verdicts ask for."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from lspdmobile.choices import Verdict
from lspdmobile.cli.terminal import Terminal, relative

if TYPE_CHECKING:
    from lspdmobile.errors import LspdmobileError
    from lspdmobile.run_folder import RunReport

__all__ = ["finish"]

_CONVERSION_FAILED: Final = 4
_GATE_FAILED: Final = 3


def finish(
    terminal: Terminal,
    reports: "Mapping[Path, RunReport]",
    *,
    json: bool,
    stopped: "Mapping[str, LspdmobileError] | None" = None,
) -> None:
    """Print one parity table of all runs, and leave with the exit code that the worst of them asks for.

    Args:
        terminal: Where to.
        reports: Of each run, by its folder.
        json: Print reports as JSON: of one run the report itself, of several a list.
        stopped: What stopped the export of other students, by their names.
    """
    from lspdmobile.report.causes import cause_lines
    from lspdmobile.report.tables import parity_table

    terminal.close()
    several = len(reports) + len(stopped or {}) > 1
    if json:
        fields = [report.model_dump(mode="json", by_alias=True) for report in reports.values()]
        terminal.show_json(fields if several else fields[0])
    elif reports:
        for report in reports.values():
            of = f" of {report.student.name}" if several else ""
            terminal.show(*(f"likeliest cause{of}: {line}" for line in cause_lines(report)))
        terminal.show(parity_table(*reports.values()))
        for folder, report in reports.items():
            if several:
                terminal.show(f"{report.student.name}:")
            terminal.show(*_lines(report, folder))
        terminal.show(*filter(None, [terminal.time_line()]))
    for name, error in (stopped or {}).items():
        terminal.err.print(f"error: {name}: {error}", soft_wrap=True)
    _leave(reports, stopped or {})


def _leave(reports: "Mapping[Path, RunReport]", stopped: "Mapping[str, LspdmobileError]") -> None:
    if stopped:
        raise typer.Exit(next(iter(stopped.values())).exit_code)
    if any(a.sha256 is None for report in reports.values() for a in report.artifacts):
        raise typer.Exit(_CONVERSION_FAILED)
    if any(report.verdict is not Verdict.PASS for report in reports.values()):
        raise typer.Exit(_GATE_FAILED)


def _lines(report: "RunReport", folder: Path) -> Iterator[str]:
    """Say what the table does not."""
    from lspdmobile.report.calibration import calibration_lines
    from lspdmobile.report.conditions import condition_lines
    from lspdmobile.report.delegations import delegation_lines
    from lspdmobile.report.explanations import form_lines, repair_lines
    from lspdmobile.report.methods import method_lines
    from lspdmobile.report.tables import note_lines, reason_lines

    yield from reason_lines(report, only_failures=True)
    for pair in report.not_taken:
        yield f"not written: {pair} (the format does not take this precision)"
    yield from condition_lines(report)
    yield from form_lines(report)
    yield from repair_lines(report)
    yield from method_lines(report.methods)
    yield from calibration_lines(report.calibration)
    yield from delegation_lines(report, heavy_only=True)
    yield from note_lines(report)
    yield f"verdict: {report.verdict}"
    yield f"report: {relative(folder / 'report.html')}"
