"""``lspdmobile doctor``: what this environment can convert, run and verify."""

import typer

from lspdmobile.choices import Format
from lspdmobile.cli.app import app
from lspdmobile.cli.options import JsonOpt, VerboseOpt
from lspdmobile.cli.terminal import working

__all__ = ["doctor"]

_LACKS = 5


@app.command()
def doctor(*, json: JsonOpt = False, verbose: VerboseOpt = False) -> None:
    """Say which formats can be converted, run and verified here, and what to install where one cannot.

    [bold]Example:[/bold] lspdmobile doctor
    """
    with working(verbose=verbose) as terminal:
        from rich.table import Table

        from lspdmobile.environment import environment, is_macos, missing

        lacking = {form: missing(form) for form in Format}
        runners = {
            Format.COREML: "Core ML" if is_macos() else "MIL executor (not the Neural Engine)",
            Format.TFLITE: "LiteRT",
            Format.EXECUTORCH: "ExecuTorch",
        }
        if json:
            formats = {
                form: {"ready": not packages, "executor": runners[form], "missing": list(packages)}
                for form, packages in lacking.items()
            }
            terminal.show_json({"formats": formats, "environment": environment()})
        else:
            table = Table("format", "convert and verify", "executed by", "to mend")
            for form, packages in lacking.items():
                mend = f"pip install {' '.join(packages)}" if packages else ""
                table.add_row(form, "no" if packages else "yes", runners[form], mend)
            terminal.show(table, "  ".join(f"{name} {version}" for name, version in environment().items()))
        if any(lacking.values()):
            raise typer.Exit(_LACKS)
