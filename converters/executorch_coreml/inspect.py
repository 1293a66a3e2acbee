"""What is really inside a ``.pte`` with Core ML delegates, ours or not, the Core ML programs included."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from converters.coreml.contents import constants, contents, grids, operators, readings
from converters.coreml.inspect import forecasts
from converters.executorch.inspect import facts_of
from converters.executorch.program import read_with_constants
from converters.executorch_coreml.embedded import CORE_ML, core_ml_files, is_compiled, mil_program
from converters.layer_bytes import layer_bytes
from lspdmobile.artifact import ArtifactFacts
from lspdmobile.delegation import Delegation, divided
from lspdmobile.errors import BadInputError
from lspdmobile.operators import Grid, Operator, StoredBytes, duplicates_of, leftovers_of

__all__ = ["facts_inside", "inspect"]

_UNOPENED: Final = f"delegate::{CORE_ML}"


def inspect(path: Path) -> ArtifactFacts:
    """Read a ``.pte`` and the Core ML programs of its delegates.

    Inputs, outputs and metadata are the ExecuTorch program's; operations inside a Core ML program are named
    ``coreml::conv``. A compiled model, or one that methods share, is not opened: it counts as one operator and its
    weights are not in the byte table. That an operation is delegated to Core ML does not say whether the Neural Engine
    takes it.

    Raises:
        BadInputError: The file or a delegate in it is damaged.
        ConversionError: A Core ML program uses what the reader does not know.
        EnvironmentLacksError: executorch is absent.
    """
    return facts_inside(path, *read_with_constants(path))


def facts_inside(path: Path, program: Any, held: Mapping[str, bytes]) -> ArtifactFacts:
    """Give what :func:`inspect` gives, of a program that was read from ``path`` with the constants it holds by name."""
    facts = facts_of(path, program, held)
    try:
        return _with_core_ml(path, program, facts)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        message = f"{path}: its Core ML part contradicts itself ({type(error).__name__}: {error}); export it again"
        raise BadInputError(message) from error


def _with_core_ml(path: Path, program: Any, facts: ArtifactFacts) -> ArtifactFacts:
    weights, layers = Counter[str](facts.weight_bytes_by_dtype), dict(facts.weight_bytes_by_layer)
    opened: list[tuple[Operator, ...] | str] = []
    found: list[Grid] = []
    stored: list[StoredBytes] = []
    unread = facts.unopened.get(CORE_ML, 0)
    for number, files in enumerate(core_ml_files(program, path, skip_shared=True)):
        if not files or is_compiled(files):
            opened.append("compiled model" if files else "stored elsewhere in the file")
            continue
        unread -= sum(map(len, files.values()))
        embedded = mil_program(files, path)
        _, held_by_dtype = contents(embedded)
        layers |= {f"coreml {number}: {k}": held for k, held in layer_bytes(readings(embedded), held_by_dtype).items()}
        weights.update(held_by_dtype)
        opened.append(operators(embedded))
        found += grids(embedded)
        stored += constants(embedded)
    inside = [each for part in opened if not isinstance(part, str) for each in part]
    working = _opened(facts.operators, opened)
    return replace(
        facts,
        ops=_counted(facts, working),
        weight_bytes_by_dtype=dict(weights.most_common()),
        weight_bytes_by_layer=layers,
        delegation=_delegation(facts.delegation, working),
        operators=working,
        forecasts=forecasts(inside),
        grids=(*facts.grids, *found),
        duplicates=(*facts.duplicates, *duplicates_of(stored)),
        leftovers=leftovers_of(inside, simulated=True),
        unopened={name: size for name, size in facts.unopened.items() if name != CORE_ML}
        | ({CORE_ML: unread} if any(isinstance(part, str) for part in opened) else {}),
    )


def _counted(facts: ArtifactFacts, working: Sequence[Operator]) -> dict[str, int]:
    """Count the operators of all methods, the main one's delegates opened."""
    counts = Counter(facts.ops) - Counter(each.kind for each in facts.operators)
    return dict((counts + Counter(each.kind for each in working)).most_common())


def _opened(outside: Sequence[Operator], parts: Sequence[Sequence[Operator] | str]) -> tuple[Operator, ...]:
    """Put what the delegates hold in the places of the delegates; one that is not opened, and says why, stays one."""
    waiting = iter(parts)
    found: list[Operator] = []
    for each in outside:
        part = next(waiting, "") if each.kind == _UNOPENED else None
        if part is None:
            found.append(each)
        elif isinstance(part, str):
            found.append(replace(each, kind=f"{_UNOPENED} ({part})"))
        else:
            found += [replace(inner, kind=f"coreml::{inner.kind}") for inner in part]
    return tuple(found)


def _delegation(delegation: Delegation | None, working: Sequence[Operator]) -> Delegation | None:
    """Count what the opened delegates hold instead of the delegates."""
    if delegation is None:
        return None
    return divided(working, delegation.left, delegate=delegation.delegate, target="executorch-coreml")
