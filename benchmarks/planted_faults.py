"""Plant the mistakes of ``benchmarks/faults/`` in files of every format and see what ``lspdmobile verify`` says.

    python benchmarks/planted_faults.py [--student pyramid] [--format coreml,tflite,executorch] [--precision fp32,w8a8]
        [--faults "bgr,half a pixel"]

The student is one of the small ones of ``benchmarks/mutations/world.py``, trained here, or a bundled one. Exits with 1
where a fault passed.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.kinds import FAULTS
from benchmarks.faults.trial import Planted, tried
from benchmarks.mutations.world import CONFIGS, silent, world
from lspdmobile.choices import parse_formats, parse_precisions
from lspdmobile.run import ExportRequest, export
from lspdmobile.student import load_student

PICTURES = 64


def main() -> int:
    """Plant, verify, print the table; gives the exit code."""
    parser = argparse.ArgumentParser(description="Plant mistakes in files and see which verify catches and names.")
    parser.add_argument("--student", default="pyramid", help=f"{', '.join(CONFIGS)}, or a bundled student")
    parser.add_argument("--format", default="coreml,tflite,executorch")
    parser.add_argument("--precision", default="fp32,fp16,w8a8")
    parser.add_argument("--faults", default=",".join(FAULTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        planted = planted_in(Path(name), options)
    for line in table(planted):
        print(line)
    return 0 if all(each.caught for each in planted) else 1


def planted_in(folder: Path, options: argparse.Namespace) -> list[Planted]:
    """Export the student, plant everything and verify."""
    if options.student in CONFIGS:
        checkpoint, pictures = world(folder, options.student, pictures=PICTURES)
        student, data = load_student(str(checkpoint)), pictures
    else:
        student, data = load_student(options.student), None
    request = ExportRequest(
        student=student,
        formats=parse_formats(options.format),
        precisions=parse_precisions(options.precision),
        output_dir=folder / "run",
        data=data,
        calibration=data,
        evaluation_samples=None if data else PICTURES * 6,
        methods=(),
    )
    export(request, silent)
    return tried(folder / "run", student, request, folder, options.faults.split(","))


def table(planted: Sequence[Planted]) -> list[str]:
    """Give the lines of a Markdown table and a summary."""
    lines = ["| planted | file | caught by | named | right |", "|---|---|---|---|---|"]
    for each in planted:
        rules = ", ".join(each.rules) if each.caught else "passed"
        kind = each.file.split("_", 1)[-1]
        right = "yes" if each.right else "no"
        lines.append(f"| {FAULTS[each.fault].told} | {kind} | {rules} | {each.cause}: {each.sentence[:90]} | {right} |")
    caught, right = (sum(values) for values in ([e.caught for e in planted], [e.right for e in planted]))
    return [*lines, "", f"{caught} of {len(planted)} caught, {right} named right"]


if __name__ == "__main__":
    sys.exit(main())
