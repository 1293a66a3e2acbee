"""Writes the rules of delegation as Markdown: ``python -m converters.rules_table docs/delegation_rules.md``."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from converters.coreml.rules import GPU as CORE_ML_GPU
from converters.coreml.rules import NEURAL_ENGINE
from converters.executorch.rules import XNNPACK as EXECUTORCH
from converters.tflite.rules import CHECKED
from converters.tflite.rules import GPU as LITERT_GPU
from converters.tflite.rules import XNNPACK as LITERT
from lspdmobile.delegation import DelegationRule

__all__ = ["rules_table"]

_TABLES: Final[tuple[tuple[str, Sequence[DelegationRule]], ...]] = (
    ("litert-xnnpack", LITERT),
    ("litert-gpu", (*LITERT_GPU, CHECKED)),
    ("executorch-xnnpack", EXECUTORCH),
    ("coreml-ane", NEURAL_ENGINE),
    ("coreml-gpu", CORE_ML_GPU),
)
_HEAD: Final = """# Rules of delegation

<!-- Written by `python -m converters.rules_table docs/delegation_rules.md`; change its sources instead. -->

Why a target does not take an operator. How firm a rule is, and what is done with it: [delegation.md](delegation.md).
"""


def rules_table() -> str:
    """Give the page."""
    return "\n".join([_HEAD, *(line for target, rules in _TABLES for line in _table(target, rules))])


def _table(target: str, rules: Sequence[DelegationRule]) -> Iterator[str]:
    yield f"## {target}\n\n| rule | what it says | firm | source |\n|---|---|---|---|"
    for rule in rules:
        yield f"| {rule.name} | {rule.text} | {rule.firmness} | {rule.source} |"
    yield ""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(rules_table(), encoding="utf-8")
