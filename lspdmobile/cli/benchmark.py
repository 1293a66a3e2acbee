"""``lspdmobile benchmark``: latency and memory of artifacts on this machine, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import JsonOpt, ThreadsOpt, VerboseOpt
from lspdmobile.cli.terminal import working

__all__ = ["benchmark"]


@app.command()
def benchmark(
    artifacts: Annotated[
        list[Path],
        typer.Argument(metavar="ARTIFACT…|RUN_DIR…", help="Files to time, ours or not, and folders of some."),
    ],
    *,
    threads: ThreadsOpt = 1,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Counted calls of each file.")] = 50,
    warm_up: Annotated[int, typer.Option("--warm-up", min=0, help="Calls of each file before those that count.")] = 10,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure it too: a process for each.")] = True,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Time artifacts in turns, one picture a call, and give ratios to the first; measure what memory each needs.

    [bold]Example:[/bold] lspdmobile benchmark runs/demo
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.benchmarking import artifacts_among
        from lspdmobile.benchmarking import benchmark as measured
        from lspdmobile.report.timings import timing_lines, timing_table

        found = measured(
            artifacts_among(artifacts),
            threads=threads,
            rounds=rounds,
            warm_up=warm_up,
            memory=memory,
            progress=terminal.progress,
        )
        terminal.close()
        if json:
            terminal.show_json(found.to_dict())
            return
        terminal.show(timing_table(found), *timing_lines(found))
