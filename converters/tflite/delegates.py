"""What XNNPACK takes of a ``.tflite`` file on this machine, and what LiteRT's GPU delegate would take.

XNNPACK is asked: the interpreter divides the file when it is loaded. The GPU is foretold by the check of single
operators that is part of LiteRT's own library, and by what the delegate's source says of types and ranks.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from converters.tflite.probing import Answer
from converters.tflite.rules import CHECKED, GPU, XNNPACK
from lspdmobile.delegation import Delegation, DelegationRule, divided, forecast, reasons
from lspdmobile.operators import Operator

__all__ = ["GPU_TARGET", "XNNPACK_TARGET", "gpu_forecast", "xnnpack_partition"]

XNNPACK_TARGET: Final = "litert-xnnpack"
GPU_TARGET: Final = "litert-gpu"


def xnnpack_partition(answer: Answer, operators: Sequence[Operator]) -> Delegation | str:
    """Tell which operators the interpreter handed to XNNPACK; where it cannot load the file, what it says.

    Args:
        answer: What LiteRT says of the file.
        operators: Of its main subgraph, in their order.
    """
    if isinstance(answer.nodes, str):
        return answer.nodes
    originals = [node for node in answer.nodes if node["op_name"] != "DELEGATE"]
    if len(originals) != len(operators):
        return "LiteRT rewrites it when it loads it"
    taken = _taken(originals, [node for node in answer.nodes if node["op_name"] == "DELEGATE"])
    left = [each for node, each in zip(originals, operators, strict=True) if node["index"] not in taken]
    return divided(operators, reasons(left, XNNPACK), delegate="XNNPACK", target=XNNPACK_TARGET)


def gpu_forecast(answer: Answer, operators: Sequence[Operator]) -> Delegation:
    """Foretell what the GPU delegate takes of the operators that compute something.

    Args:
        answer: What LiteRT says of the file.
        operators: Of its main subgraph, in their order.
    """
    refused = answer.refused
    own = [_refusal(operators[index].name, said) for index, said in refused.items() if index < len(operators)]
    working = [each for each in operators if each.computed]
    return forecast(working, [*GPU, *own], delegate="LiteRT GPU", target=GPU_TARGET)


def _refusal(operator: str, said: str) -> DelegationRule:
    return replace(CHECKED, text=said, applies=lambda each: each.name == operator)


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
