"""What is really inside a ``.pte`` with Core ML delegates, ours or not, the Core ML programs included."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from converters.coreml.inspect import contents, readings
from converters.executorch.inspect import facts_of
from converters.executorch.program import read_program
from converters.executorch_coreml.embedded import CORE_ML, core_ml_files, is_compiled, mil_program
from converters.layer_bytes import layer_bytes
from lspdmobile.artifact import ArtifactFacts, Delegation

__all__ = ["inspect"]

_UNOPENED: Final = f"delegate::{CORE_ML}"


def inspect(path: Path) -> ArtifactFacts:
    """Read a ``.pte`` and the Core ML programs of its delegates.

    Inputs, outputs and metadata are the ExecuTorch program's; operations inside a Core ML program are named
    ``coreml::conv``. A compiled model cannot be opened: it counts as one operator and its weights are not in the byte
    table. That an operation is delegated to Core ML does not say whether the Neural Engine takes it.

    Raises:
        BadInputError: The file or a delegate in it is damaged.
        ConversionError: A Core ML program uses what the reader does not know.
        EnvironmentLacksError: executorch is absent.
    """
    program = read_program(path)
    facts = facts_of(path, program)
    inside, weights = Counter[str](), Counter[str](facts.weight_bytes_by_dtype)
    layers = dict(facts.weight_bytes_by_layer)
    for number, files in enumerate(core_ml_files(program, path)):
        if is_compiled(files):
            inside[f"{_UNOPENED} (compiled model)"] += 1
            continue
        embedded = mil_program(files, path)
        kinds, stored = contents(embedded)
        layers |= {f"coreml {number}: {k}": held for k, held in layer_bytes(readings(embedded), stored).items()}
        inside.update({f"coreml::{kind}": count for kind, count in kinds.items()})
        weights.update(stored)
    unopened = facts.ops.get(_UNOPENED, 0)
    ops = inside + Counter({name: count for name, count in facts.ops.items() if name != _UNOPENED})
    return replace(
        facts,
        ops=dict(ops.most_common()),
        weight_bytes_by_dtype=dict(weights.most_common()),
        weight_bytes_by_layer=layers,
        delegation=_delegation(facts.delegation, inside.total() - unopened),
    )


def _delegation(delegation: Delegation | None, more: int) -> Delegation | None:
    """Count what the opened delegates hold instead of the delegates."""
    if delegation is None:
        return None
    return replace(delegation, delegated=delegation.delegated + more, total=delegation.total + more)
