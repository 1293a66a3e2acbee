"""Export with parity beside the same job done by each library's own documented script, one after the other.

    python benchmarks/naive_export.py [--student lspd-s] [--rounds 1] [--jobs 2] [--json]

The job: fp32 and w8a8 files of all three formats, calibrated on the bundled 128 pictures, and their PCK beside the
float student's on 200 pictures. The scripts (``tool_defaults.py``) are a process per library, as somebody would run
them; each runs the float student once. Core ML's judges nothing, since nothing of Apple's runs here, which is in its
favour. Ours is ``lspdmobile export --methods none --jobs 2``, which also fuses, compares with the
plan, and writes reports. Both take turns in one run; a round is one of each.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from harness import printed
from lspdmobile.errors import BadInputError

LIBRARIES: Final = {"coreml": ".mlpackage", "litert": ".tflite", "executorch": ".pte"}
PICTURES: Final = 200
Array = NDArray[np.float32]


def script(library: str, student_name: str, folder: Path) -> None:
    """Do what one library's script would: convert, quantize, run both files, print what is lost."""
    import torch
    from tool_defaults import DEFAULTS, FLOATS, quantized_litert

    from lspdmobile.data.bundled import bundled_calibration_pictures, bundled_pictures
    from lspdmobile.data.views import load_views
    from lspdmobile.decode import decode
    from lspdmobile.parity.task import evaluate
    from lspdmobile.student import load_student

    torch.set_num_threads(1)
    student = load_student(student_name)
    calibration = load_views(bundled_calibration_pictures(), student.contract, student.skeleton).inputs()
    views = load_views(bundled_pictures(), student.contract, student.skeleton, limit=PICTURES, seed=0)
    suffix = LIBRARIES[library]
    files = folder / f"fp32{suffix}", folder / f"w8a8{suffix}"
    FLOATS[suffix](student.network, calibration, files[0])
    if library == "litert":
        quantized_litert(files[0].read_bytes(), calibration, files[1])
    else:
        DEFAULTS[{"coreml": "Core ML Tools, PT2E w8a8", "executorch": "XNNPACK quantizer, per channel"}[library]][1](
            student.network, calibration, files[1]
        )
    if library == "coreml":
        return
    inputs = views.inputs()
    with torch.inference_mode():
        reference = np.concatenate([student.network(torch.from_numpy(x[None])).numpy() for x in inputs])
    for maps in (reference, *(RUN[library](file, inputs) for file in files)):
        points = decode(maps, contract=student.contract, rule=student.decode_rule)
        found = evaluate(views.to_pictures(points), views.persons, student.skeleton).metrics["pck@0.2"]
        print(f"{library}: pck@0.2 {found:.4f}")


def run_litert(file: Path, inputs: Array) -> Array:
    """Run a file on pictures one by one."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    before, after = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for picture in inputs:
        interpreter.set_tensor(before, np.ascontiguousarray(picture.transpose(1, 2, 0)[None]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(after).transpose(0, 3, 1, 2))
    return np.ascontiguousarray(np.concatenate(found))


def run_executorch(file: Path, inputs: Array) -> Array:
    """Run a file on pictures one by one."""
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(file).load_method("forward")
    if method is None:
        message = f"{file}: no method forward"
        raise BadInputError(message)
    return np.concatenate([method.execute([torch.from_numpy(x[None].copy())])[0].numpy() for x in inputs])


RUN: Final[dict[str, Callable[[Path, Array], Array]]] = {"litert": run_litert, "executorch": run_executorch}


def timed(command: list[str]) -> dict[str, float]:
    """Run a command; gives its wall and CPU seconds.

    Raises:
        BadInputError: It failed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        message = f"{' '.join(command)} gave {done.returncode}: {done.stderr[-500:]}"
        raise BadInputError(message)
    return {"wall_s": wall, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Time both ways in turns."""
    ours = [sys.executable, "-m", "lspdmobile", "export", options.student, "-f", "all", "-p", "fp32,w8a8"]
    ours += ["--methods", "none", "--num-evaluation-samples", str(PICTURES), "--max-drop", "3"]
    ours += ["--jobs", str(options.jobs)]
    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            found = {"lspdmobile export": timed([*ours, "-o", f"{folder}/run"])}
            for library in LIBRARIES:
                own = [sys.executable, __file__, "--student", options.student, "--script", library, "--into", folder]
                found[f"{library} script"] = timed(own)
        rounds.append(found)
    names = list(rounds[0])
    rows = {n: {key: statistics.median(r[n][key] for r in rounds) for key in ("wall_s", "cpu_s")} for n in names}
    scripts = {key: sum(rows[n][key] for n in names[1:]) for key in ("wall_s", "cpu_s")}
    ratio = {key: rows[names[0]][key] / scripts[key] for key in scripts}
    return {"student": options.student, "rounds": options.rounds, "rows": rows, "scripts": scripts, "ratio": ratio}


def table_of(found: dict[str, Any]) -> Table:
    """Lay the seconds out, the ratio last."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(f"{found['student']}, fp32 and w8a8, {PICTURES} pictures")
    for heading in ("wall s", "CPU s"):
        table.add_column(heading, justify="right")
    for name, row in (*found["rows"].items(), ("the scripts together", found["scripts"])):
        table.add_row(name, f"{row['wall_s']:.1f}", f"{row['cpu_s']:.1f}")
    table.add_section()
    table.add_row("export over scripts", *(f"{found['ratio'][key]:.2f}" for key in ("wall_s", "cpu_s")))
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Export beside the libraries' own scripts.")
    parser.add_argument("--student", default="lspd-s", help="bundled name or checkpoint")
    parser.add_argument("--rounds", type=int, default=1, help="of each way, in turns")
    parser.add_argument("--jobs", type=int, default=2, help="of lspdmobile export")
    parser.add_argument("--script", choices=LIBRARIES, help="be one library's script")
    parser.add_argument("--into", type=Path, help="where that writes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if options.script:
        script(options.script, options.student, options.into)
        return 0
    return printed(options, measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
