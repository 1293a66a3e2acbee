"""``lspdmobile train``: the distillation recipes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import JsonOpt, VerboseOpt
from lspdmobile.cli.terminal import Terminal, relative, working

if TYPE_CHECKING:
    from lspdmobile.train.loop import StepReport

__all__ = ["train"]


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file, such as configs/lspd-s.toml.")],
    *,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that the configuration's label files are relative to.")
    ] = None,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Checkpoints and the trained student; resumes what is in it.")
    ] = Path("runs/train"),
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto.")] = "auto",
    init: Annotated[
        Path | None, typer.Option("--init", help="Start from a student or an earlier run's checkpoint.pt.")
    ] = None,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Train a student by its recipe. Killed at any moment, the same command goes on where it stopped.

    [bold]Example:[/bold] lspdmobile train configs/lspd-s.toml --data lspet/ -o runs/train-lspd-s
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.train.config import read_config
        from lspdmobile.train.job import run_job

        trained = run_job(
            read_config(config),
            data=data,
            folder=output_dir,
            device=device,
            init=init,
            progress=terminal.progress,
            on_step=lambda report: _on_step(terminal, report),
        )
        terminal.close()
        if json:
            terminal.show_json({"student": str(trained.path), "metrics": trained.student.metrics})
            return
        for where, scores in trained.student.metrics.items():
            terminal.show(f"{where}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        terminal.show(f"student: {relative(trained.path)}")


def _on_step(terminal: Terminal, report: "StepReport") -> None:
    terminal.progress(f"train {report.size}px", report.step, report.total)
    if report.metrics:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in report.metrics.items())
        terminal.err.print(
            f"epoch {report.epoch + 1}: loss {report.loss:.4f}, {report.pictures_per_second:.0f} pictures/s, {scores}"
        )
