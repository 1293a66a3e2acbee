"""``lspdmobile students``: what is bundled, and the presets that can be trained."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lspdmobile.cli.app import app
from lspdmobile.cli.options import JsonOpt, VerboseOpt
from lspdmobile.cli.terminal import working

__all__ = ["students"]

_SHOWN: Final = ("pck@0.2", "pckh@0.5", "oks_ap")


@app.command()
def students(*, json: JsonOpt = False, verbose: VerboseOpt = False) -> None:
    """List the bundled students with their metrics, and the presets.

    [bold]Example:[/bold] lspdmobile students
    """
    with working(verbose=verbose) as terminal:
        import torch
        from rich.table import Table

        from lspdmobile.fusion import cost_of
        from lspdmobile.networks.presets import PRESETS
        from lspdmobile.report.tables import amount
        from lspdmobile.student import bundled_students, load_student, student_from_preset

        bundled = bundled_students()
        rows: list[dict[str, Any]] = []
        for name in [*bundled, *(p for p in PRESETS if p not in bundled)]:
            with torch.device("cpu" if name in bundled else "meta"):  # shapes are all that counting needs
                student = load_student(name) if name in bundled else student_from_preset(name)
            cost = cost_of(student.network, student.contract.input_size)
            rows.append(
                {
                    "name": name,
                    "bundled": name in bundled,
                    "input_size": list(student.contract.input_size),
                    "skeleton": student.skeleton.name,
                    "params": cost.params,
                    "macs": cost.macs,
                    "metrics": dict(student.metrics),
                }
            )
        if json:
            terminal.show_json(rows)
            return
        table = Table("name", "kind", "input", "skeleton", "params", "MACs", "pck@0.2, pckh@0.5 or oks_ap")
        for row in rows:
            scores = "\n".join(_scores(row["metrics"]))
            size = "x".join(map(str, row["input_size"]))
            kind = "bundled, trained" if row["bundled"] else "preset, untrained"
            table.add_row(row["name"], kind, size, row["skeleton"], amount(row["params"]), amount(row["macs"]), scores)
        terminal.show(table)


def _scores(metrics: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Give a line for each set of pictures; what is listed joint by joint is for ``--json``."""
    for where, found in metrics.items():
        shown = [f"{found[name]:.3f}" for name in _SHOWN if name in found]
        if shown:
            yield f"{where}: {', '.join(shown[:2])}"
