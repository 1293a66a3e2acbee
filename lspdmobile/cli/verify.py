"""``lspdmobile verify``: judge a run again from its files."""

from pathlib import Path
from typing import Annotated

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import DataOpt, JsonOpt, ThreadsOpt, VerboseOpt
from lspdmobile.cli.terminal import working

__all__ = ["verify"]

_GATE_FAILED = 3


@app.command()
def verify(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="What export left.")],
    *,
    data: DataOpt = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Public Ed25519 key, PEM: the run must be signed by its owner.")
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            "--executor",
            help="Second opinions, comma list: litert-reference, tensorflow (an extra), portable, mil (on a Mac).",
        ),
    ] = None,
    threads: ThreadsOpt = 1,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Check the hashes of a run, execute every artifact again against its float student and judge it again.

    [bold]Example:[/bold] lspdmobile verify runs/demo
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.report.causes import cause_lines
        from lspdmobile.report.conditions import condition_lines
        from lspdmobile.report.tables import note_lines, parity_table, reason_lines
        from lspdmobile.second_opinions import parse_witnesses
        from lspdmobile.signing import check_signature
        from lspdmobile.verify import verify as run

        if key is not None:
            check_signature(run_dir, key)
        witnesses = parse_witnesses(executor) if executor is not None else ()
        found = run(run_dir, terminal.progress, data=data, threads=threads, witnesses=witnesses)
        terminal.close()
        if json:
            fields = found.report.model_dump(mode="json", by_alias=True)
            terminal.show_json({**fields, "tampered": list(found.tampered), "passed": found.passed})
        else:
            terminal.show(*(f"likeliest cause: {line}" for line in cause_lines(found.report)))
            terminal.show(*(f"tampered: {fault}" for fault in found.tampered))
            terminal.show(parity_table(found.report), *reason_lines(found.report, only_failures=True))
            terminal.show(*condition_lines(found.report), *note_lines(found.report))
            terminal.show(
                *(
                    f"{entry.label}: {each.sentence}"
                    for entry in found.report.artifacts
                    for each in entry.second_opinions
                )
            )
            terminal.show(f"verdict: {found.verdict}")
        if not found.passed:
            raise typer.Exit(_GATE_FAILED)
