"""What an offline teacher finds in views of another size than its own: as they are, and brought to its size.

    python benchmarks/teacher_views.py --data lspet/ [--teacher lspd-s] [--sizes 96,128,192] [--json]

A student that learns at 128 pixels from a teacher of 192 shows it views of 128. Both columns are PCK of the same views.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.table import Table

from harness import printed
from lspdmobile.data.views import load_views
from lspdmobile.decode import decode
from lspdmobile.parity.task import evaluate
from lspdmobile.student import load_student
from lspdmobile.train.lessons import OfflineTeacher

BATCH = 16


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Score the teacher at every size, both ways."""
    torch.set_num_threads(1)
    student = load_student(options.teacher)
    rows: list[dict[str, Any]] = []
    for size in (int(text) for text in options.sizes.split(",")):
        contract = replace(student.contract, input_size=(size, size))
        views = load_views(options.data, contract, student.skeleton, split="val", limit=options.pictures, seed=0)
        row: dict[str, Any] = {"size": size}
        for key, seen_at in (("as_they_are", (size, size)), ("at_its_own_size", student.contract.input_size)):
            teacher = OfflineTeacher(network=student.network, input_size=seen_at)
            maps = [
                teacher.heatmaps(torch.from_numpy(views.inputs(i, i + BATCH)), contract.heatmap_stride).numpy()
                for i in range(0, len(views), BATCH)
            ]
            points = decode(np.concatenate(maps), contract=contract, rule=student.decode_rule)
            row[key] = evaluate(views.to_pictures(points), views.persons, student.skeleton).metrics["pck@0.2"]
        rows.append(row)
    return rows


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Lay both columns out."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("views, pixels", "as they are", "at its own size"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(str(row["size"]), f"{row['as_they_are']:.3f}", f"{row['at_its_own_size']:.3f}")
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="PCK@0.2 of a teacher by the size of what it is shown.")
    parser.add_argument("--data", type=Path, required=True, help="labelled set")
    parser.add_argument("--teacher", default="lspd-s", help="bundled name or checkpoint")
    parser.add_argument("--sizes", default="96,128,192", help="pixels")
    parser.add_argument("--pictures", type=int, default=None, help="default: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return printed(parser.parse_args(), measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
