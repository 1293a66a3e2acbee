"""Every rule of delegation names its source, and the page that lists them is up to date."""

from pathlib import Path

from converters.coreml.rules import GPU, NEURAL_ENGINE
from converters.executorch.rules import XNNPACK as EXECUTORCH
from converters.rules_table import rules_table
from converters.tflite.rules import CHECKED, XNNPACK
from converters.tflite.rules import GPU as LITERT_GPU

PAGE = Path(__file__).parents[2] / "docs" / "delegation_rules.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == rules_table(), (
        "run python -m converters.rules_table docs/delegation_rules.md"
    )


def test_every_rule_has_a_source_and_a_name_of_its_own() -> None:
    for rules in (XNNPACK, (*LITERT_GPU, CHECKED), EXECUTORCH, NEURAL_ENGINE, GPU):
        assert len({rule.name for rule in rules}) == len(rules)
        assert all("https://" in rule.source or rule.source.startswith("tests/") for rule in rules)
