"""What is installed here: versions for manifests, and what this machine can convert, run and verify."""

import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from lspdmobile import __version__
from lspdmobile.choices import Format

__all__ = ["RUNTIMES", "environment", "is_macos", "missing", "processor", "versions"]

_CPUINFO: Final = Path("/proc/cpuinfo")
_CPU_FIELDS: Final = ("model name", "cpu family", "model", "stepping", "CPU part")

_PACKAGES: Final = (
    "torch",
    "torchao",
    "numpy",
    "pillow",
    "coremltools",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "executorch",
    "tensorflow",
)

RUNTIMES: Final[dict[Format, tuple[tuple[str, str], ...]]] = {
    Format.COREML: (("coremltools", "coremltools"),),
    Format.TFLITE: (
        ("litert_torch", "litert-torch"),
        ("ai_edge_litert", "ai-edge-litert"),
        ("ai_edge_quantizer", "ai-edge-quantizer"),
    ),
    Format.EXECUTORCH: (("executorch", "executorch"), ("torchao", "torchao")),
}


def versions() -> dict[str, str]:
    """Give the versions of this tool and of every package that shapes an artifact, where installed."""
    found = {"lspdmobile": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """Give the versions, the operating system and the processor."""
    return {**versions(), "system": platform.system(), "machine": platform.machine()}


def processor() -> str:
    """Name the processor as exactly as the system tells: on Linux its model, family and stepping."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return " ".join(said[field] for field in _CPU_FIELDS if field in said) or platform.machine()


def missing(form: Format) -> tuple[str, ...]:
    """Name the packages a format needs that are not installed."""
    return tuple(package for module, package in RUNTIMES[form] if find_spec(module) is None)


def is_macos() -> bool:
    """Tell whether Core ML itself can run here."""
    return sys.platform == "darwin"
