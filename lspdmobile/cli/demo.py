"""``lspdmobile demo``: the main job on what is bundled."""

from pathlib import Path
from typing import Annotated, Final

import typer

from lspdmobile.choices import Format, Precision
from lspdmobile.cli.app import app
from lspdmobile.cli.options import JsonOpt, VerboseOpt
from lspdmobile.cli.outcome import finish
from lspdmobile.cli.terminal import working

__all__ = ["demo"]

_STUDENT: Final = "lspd-s"


@app.command()
def demo(
    *,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder to make or replace.")] = Path(
        "runs/demo"
    ),
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Export the bundled student to every format, judge each file on the bundled pictures, and print the table.

    What `export` does for the accuracy of integer artifacts by default is left out: it would take longer than the rest.

    [bold]Example:[/bold] lspdmobile demo
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.run import ExportRequest, export
        from lspdmobile.student import load_student

        request = ExportRequest(
            student=load_student(_STUDENT),
            formats=tuple(Format),
            precisions=(Precision.FP32, Precision.FP16, Precision.W8A8),
            methods=(),
            output_dir=output_dir,
            overwrite=(output_dir / "manifest.json").is_file(),
        )
        report = export(request, terminal.progress)
        finish(terminal, {output_dir: report}, json=json)
