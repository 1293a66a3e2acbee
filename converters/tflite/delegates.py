"""What XNNPACK takes of a ``.tflite`` file on this machine, and what LiteRT's GPU delegate would take.

XNNPACK is asked: the interpreter divides the file when it is loaded. The GPU is foretold by the check of single
operators that is part of LiteRT's own library, and by what the delegate's source says of types and ranks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from converters.tflite.rules import CHECKED, GPU, XNNPACK
from lspdmobile.delegation import Delegation, DelegationRule, divided, forecast, reasons
from lspdmobile.operators import Operator

__all__ = ["GPU_TARGET", "XNNPACK_TARGET", "gpu_forecast", "xnnpack_partition"]

XNNPACK_TARGET: Final = "litert-xnnpack"
GPU_TARGET: Final = "litert-gpu"

_SUBGRAPH: Final = re.compile(r"^Subgraph#(\d+)")
_OPERATOR: Final = re.compile(r"^  Op#(\d+) ")
_LONGEST_REASON: Final = 120
_WARNING: Final = "GPU COMPATIBILITY WARNING: "


def xnnpack_partition(path: Path, operators: Sequence[Operator]) -> Delegation | str:
    """Read which operators the interpreter handed to XNNPACK; where it cannot load the file, what it says.

    Args:
        path: The file.
        operators: Of its main subgraph, in their order.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        said = next(iter(str(error).splitlines()), "").rstrip(".")
        return f"LiteRT does not load it here ({said[:_LONGEST_REASON] or 'it gives no reason'})"
    nodes = interpreter._get_ops_details()
    originals = [node for node in nodes if node["op_name"] != "DELEGATE"]
    if len(originals) != len(operators):
        return "LiteRT rewrites it when it loads it"
    taken = _taken(originals, [node for node in nodes if node["op_name"] == "DELEGATE"])
    left = [each for node, each in zip(originals, operators, strict=True) if node["index"] not in taken]
    return divided(operators, reasons(left, XNNPACK), delegate="XNNPACK", target=XNNPACK_TARGET)


def gpu_forecast(path: Path, operators: Sequence[Operator]) -> Delegation:
    """Foretell what the GPU delegate takes of the operators that compute something.

    Args:
        path: The file, whole and sound.
        operators: Of its main subgraph, in their order.
    """
    refused = _refused_by_check(path)
    own = [_refusal(operators[index].name, said) for index, said in refused.items() if index < len(operators)]
    working = [each for each in operators if each.computed]
    return forecast(working, [*GPU, *own], delegate="LiteRT GPU", target=GPU_TARGET)


def _refusal(operator: str, said: str) -> DelegationRule:
    return replace(CHECKED, text=said, applies=lambda each: each.name == operator)


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


def _taken(originals: list[dict[str, Any]], partitions: list[dict[str, Any]]) -> set[int]:
    """Give the indices of the operators inside the partitions.

    The interpreter lists every original operator and, behind them, one node for each partition; a partition's operators
    are those met when walking back from its outputs to its inputs.
    """
    producer = {int(tensor): node for node in originals for tensor in node["outputs"]}
    taken: set[int] = set()
    for partition in partitions:
        borders = {int(tensor) for tensor in partition["inputs"]}
        waiting = [int(tensor) for tensor in partition["outputs"]]
        while waiting:
            tensor = waiting.pop()
            node = producer.get(tensor)
            if tensor in borders or node is None or node["index"] in taken:
                continue
            taken.add(node["index"])
            waiting.extend(int(i) for i in node["inputs"])
    return taken
