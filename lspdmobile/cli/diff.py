"""``lspdmobile diff``: what changed between two runs, or between two artifacts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import JsonOpt, VerboseOpt
from lspdmobile.cli.terminal import working
from lspdmobile.errors import BadInputError

if TYPE_CHECKING:
    from lspdmobile.report.differences import Difference

__all__ = ["diff"]


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="Run folder, or a .tflite, .pte or .mlpackage.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another one of the same kind.")],
    *,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Say what differs: bytes, dtypes, operators, delegation, accuracy, tools, metadata.

    Nothing is executed, and timings are not compared. The exit code is 0 whether or not something differs.

    [bold]Example:[/bold] lspdmobile diff runs/before runs/after
    """
    with working(verbose=verbose) as terminal:
        found = _differences(before, after)
        terminal.close()
        if json:
            terminal.show_json([each.to_dict() for each in found])
        elif not found:
            terminal.show("nothing differs")
        for each in [] if json else found:
            terminal.show(f"{each.where}: {each.what} {each.text}")


def _differences(before: Path, after: Path) -> "list[Difference]":
    from lspdmobile.artifact import size_in_bytes
    from lspdmobile.predictor import converter_of
    from lspdmobile.report.differences import between_artifacts, between_reports
    from lspdmobile.run_folder import MANIFEST, read_run_report

    for path in (before, after):
        if not path.exists():
            message = f"{path}: no such run or artifact"
            raise BadInputError(message)
    one, other = converter_of(before), converter_of(after)
    if one and other:
        sizes = size_in_bytes(before), size_in_bytes(after)
        return between_artifacts(one[1].inspect(before), other[1].inspect(after), sizes)
    if one or other or not all((path / MANIFEST).is_file() for path in (before, after)):
        message = f"{before}, {after}: give two run folders, or two artifacts"
        raise BadInputError(message)
    return between_reports(read_run_report(before), read_run_report(after))
