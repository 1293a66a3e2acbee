from pathlib import Path
from typing import Any

from converters.coreml.mil.ops_constexpr import UNPACKERS
from converters.coreml.mil.planning import PLANNERS
from converters.coreml.mil.table import NEWER, NOTES, REFUSED, operations_table

PAGE = Path(__file__).parents[4] / "docs" / "mil_operations.md"
IMPLEMENTED = {*PLANNERS, *UNPACKERS}


def test_the_page_is_up_to_date() -> None:
    command = "python -m converters.coreml.mil.table docs/mil_operations.md"
    assert PAGE.read_text(encoding="utf-8") == operations_table(), f"run {command}"


def test_every_operation_has_its_row() -> None:
    rows = [line.split("`")[1] for line in operations_table().splitlines() if line.startswith("| `")]
    assert rows == sorted(IMPLEMENTED)


def test_notes_are_about_operations_there_are() -> None:
    assert NOTES.keys() | NEWER.keys() <= IMPLEMENTED


def test_every_core_operation_is_in_the_page(core_ml_tools: Any) -> None:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    assert core_ml_tools
    theirs = set(SSAOpRegistry.core_ops) - {"const", "_const_symbolic"}
    refused = [kind for kinds in REFUSED.values() for kind in kinds]
    assert sorted(theirs) == sorted((*IMPLEMENTED, *refused))


def test_first_opsets_are_core_ml_tools(core_ml_tools: Any) -> None:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    targets = core_ml_tools.target
    opsets = {targets.iOS15: "iOS15", targets.iOS16: "iOS16", targets.iOS17: "iOS17", targets.iOS18: "iOS18"}
    first = {name: opsets[max(targets.iOS15, min(SSAOpRegistry.core_ops[name]))] for name in IMPLEMENTED}
    assert {name: opset for name, opset in first.items() if opset != "iOS15"} == NEWER
