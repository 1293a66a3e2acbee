"""What LiteRT itself says of a ``.tflite`` file: how it divides it, and what its check for the GPU refuses.

Run as a module, this is a process of its own: ``python -m converters.tflite.probing FILE`` prints one JSON object.
LiteRT trusts what it loads: a file that is damaged where nobody else looks ends the process.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lspdmobile.errors import BadInputError

__all__ = ["Answer", "ask", "ask_apart"]

_SUBGRAPH: Final = re.compile(r"^Subgraph#(\d+)")
_OPERATOR: Final = re.compile(r"^  Op#(\d+) ")
_WARNING: Final = "GPU COMPATIBILITY WARNING: "
_LONGEST_REASON: Final = 120
_KEPT: Final = ("index", "op_name", "inputs", "outputs")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What LiteRT says.

    Attributes:
        nodes: Index, operator, inputs and outputs of each node after loading, those of partitions behind the others; in
            words why it does not load the file, where it does not.
        refused: Number of an operator of the main subgraph to what the check for the GPU has against it.
    """

    nodes: list[dict[str, Any]] | str
    refused: Mapping[int, str]


def ask(path: Path) -> Answer:
    """Ask in this process about a file that is known to be sound."""
    return Answer(nodes=_nodes(path), refused=_refused_by_check(path))


def ask_apart(path: Path) -> Answer:
    """Ask in a process of its own.

    Raises:
        BadInputError: The file ends that process.
    """
    command = [sys.executable, "-m", "converters.tflite.probing", str(path.resolve())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        message = f"{path}: damaged TFLite file (LiteRT crashes when it loads it); write or download it again"
        raise BadInputError(message)
    told = json.loads(done.stdout.splitlines()[-1])
    return Answer(nodes=told["nodes"], refused={int(number): said for number, said in told["refused"].items()})


def _nodes(path: Path) -> list[dict[str, Any]] | str:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        said = next(iter(str(error).splitlines()), "").rstrip(".")
        return f"LiteRT does not load it here ({said[:_LONGEST_REASON] or 'it gives no reason'})"
    return [{key: _plain(node[key]) for key in _KEPT} for node in interpreter._get_ops_details()]


def _plain(value: Any) -> Any:
    """Give lists instead of arrays."""
    return value if isinstance(value, int | str) else [int(each) for each in value]


def _refused_by_check(path: Path) -> Mapping[int, str]:
    """Give the operators of the main subgraph that LiteRT's check refuses, each with what it says."""
    from ai_edge_litert._pywrap_analyzer_wrapper import ModelAnalyzer

    refused: dict[int, str] = {}
    subgraph = operator = -1
    for line in ModelAnalyzer(str(path), True, True).splitlines():  # a file by its path; check for the GPU
        if found := _SUBGRAPH.match(line):
            subgraph = int(found[1])
        elif found := _OPERATOR.match(line):
            operator = int(found[1])
        elif line.startswith(_WARNING) and subgraph == 0:
            refused[operator] = line.removeprefix(_WARNING)
    return refused


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(asdict(ask(Path(sys.argv[1])))) + "\n")
