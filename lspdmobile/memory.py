"""Resident memory of this process, and what a loaded artifact adds to that of a process of its own.

Run as a module, this is that process: ``python -m lspdmobile.memory ARTIFACT THREADS`` prints one JSON object.
"""

import gc
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lspdmobile.choices import Format

__all__ = ["added_by", "input_shape", "peak_mb", "reset_peak", "resident_mb"]

_STATUS: Final = Path("/proc/self/status")
_RESET: Final = Path("/proc/self/clear_refs")
_RUNS: Final = 3
_RUNTIMES: Final = {Format.TFLITE: ("ai_edge_litert.interpreter",), Format.EXECUTORCH: ("torch", "executorch.runtime")}
_RELEASE_AT_ONCE: Final = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""What makes glibc give freed memory back, so that reading the file is not counted as running it."""


def resident_mb() -> float | None:
    """Give the resident memory of now; None where the system does not tell."""
    return _status("VmRSS")


def peak_mb() -> float:
    """Give the largest resident memory since the last reset, or since the start where it cannot be reset."""
    found = _status("VmHWM")
    if found is not None:
        return found
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def reset_peak() -> bool:
    """Start measuring the peak anew; False where the system does not allow it."""
    try:
        _RESET.write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def added_by(artifact: Path, *, threads: int = 1) -> float | None:
    """Give the megabytes that an artifact adds to a process while it runs: weights, packed weights and arena.

    A process of its own imports the runtime, opens the file and runs it; counted is the peak while it runs beyond what
    was resident before the file was opened. Memory that only reading the file took is not part of it.

    Returns:
        None where this system does not tell (only Linux does) or the file cannot be run.
    """
    command = [sys.executable, "-m", "lspdmobile.memory", str(artifact.resolve()), str(threads)]
    environment = {**os.environ, **_RELEASE_AT_ONCE, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    found: float | None = json.loads(done.stdout.splitlines()[-1])["added_mb"]
    return found


def input_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give the shape ``[1, 3, H, W]`` of pictures that a file's input of four axes takes, in either axis order."""
    return (shape[0], shape[3], shape[1], shape[2]) if shape[-1] == 3 else shape


def _added(artifact: Path, threads: int) -> float | None:
    import numpy as np

    from lspdmobile.predictor import converter_of

    known = converter_of(artifact)
    if known is None:
        return None
    form, converter = known
    shape = input_shape(converter.inspect(artifact).inputs[0].shape)
    for module in _RUNTIMES.get(form, ()):
        import_module(module)
    gc.collect()
    before = resident_mb()
    executor = converter.open_executor(artifact, threads=threads)
    if before is None or not reset_peak():
        return None
    for _ in range(_RUNS):
        executor.heatmaps(np.zeros(shape, np.float32))
    return peak_mb() - before


def _status(field: str) -> float | None:
    if not _STATUS.exists():
        return None
    line = next(line for line in _STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def _main(arguments: list[str]) -> dict[str, Any]:
    return {"added_mb": _added(Path(arguments[0]), int(arguments[1]))}


if __name__ == "__main__":
    print(json.dumps(_main(sys.argv[1:])))  # noqa: T201 - what the calling process reads
