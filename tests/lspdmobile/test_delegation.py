"""Forecasts by rules, and the gate on what is delegated."""

import pytest

from lspdmobile.choices import Format, Verdict
from lspdmobile.delegation import (
    UNFORESEEN,
    Basis,
    Delegation,
    DelegationRule,
    Firmness,
    divided,
    forecast,
    reasons,
)
from lspdmobile.delegation_gate import (
    PARTITION,
    delegation_faults,
    judged_with,
    parse_min_delegated,
    require_targets,
)
from lspdmobile.errors import BadInputError
from lspdmobile.operators import Operator


def operator(kind: str, macs: int = 0) -> Operator:
    return Operator(name=f"{kind} of {macs}", kind=kind, inputs=(), outputs=(), macs=macs)


def rule(kind: str, firmness: Firmness = Firmness.DOCUMENTED) -> DelegationRule:
    return DelegationRule(
        name=f"no {kind}",
        text=f"{kind} is not taken",
        source="https://example.org",
        firmness=firmness,
        applies=lambda each: each.kind == kind,
    )


OPERATORS = [*[operator("conv", 100) for _ in range(8)], operator("gather"), operator("matmul", 200)]


def told(*rules: DelegationRule) -> Delegation:
    return forecast(OPERATORS, rules, delegate="Engine", target="coreml-ane")


def test_a_rule_leaves_its_operators_and_says_why() -> None:
    found = told(rule("gather"), rule("matmul"))
    assert (found.delegated, found.total, found.delegated_macs, found.total_macs) == (8, 10, 800, 1000)
    assert (found.fraction, found.macs_fraction, found.basis) == (0.8, 0.8, Basis.RULES)
    assert found.not_delegated == ("gather x1", "matmul x1")
    assert [(each.kind, each.rule, each.why) for each in found.left] == [
        ("gather", "no gather", "gather is not taken"),
        ("matmul", "no matmul", "matmul is not taken"),
    ]


def test_a_mere_report_is_a_doubt_and_not_a_loss() -> None:
    found = told(rule("matmul", Firmness.REPORTED), rule("gather", Firmness.OBSERVED))
    assert (found.delegated, found.macs_fraction) == (9, 1.0)
    assert [each.kind for each in found.doubtful] == ["matmul"]
    assert [each.kind for each in found.left] == ["gather"]


def test_what_a_runtime_left_is_explained_by_a_rule_by_its_own_words_or_not_at_all() -> None:
    left = [operator("gather"), operator("matmul", 2), operator("conv")]
    said = {"matmul of 2": "the runtime says so"}
    assert [(each.rule, each.why) for each in reasons(left, [rule("gather"), rule("matmul")], said)] == [
        ("no gather", "gather is not taken"),
        ("", "the runtime says so"),
        ("", UNFORESEEN),
    ]


def test_shares_are_read_by_target() -> None:
    assert parse_min_delegated(None) == {}
    assert parse_min_delegated("0.98") == {PARTITION: 0.98}
    assert parse_min_delegated("1, coreml-ane=0.9,litert-gpu = 0.5") == {
        PARTITION: 1.0,
        "coreml-ane": 0.9,
        "litert-gpu": 0.5,
    }


@pytest.mark.parametrize("text", ["98", "-0.1", "most", "nan", "coreml-ane=", "=0.9x", "coreml-tpu=0.9"])
def test_what_is_no_share_or_no_target_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="--min-delegated"):
        parse_min_delegated(text)


def test_a_limit_needs_a_format_it_is_about() -> None:
    require_targets({PARTITION: 1.0, "coreml-ane": 0.9}, [Format.TFLITE, Format.COREML])
    with pytest.raises(BadInputError, match="a real partition is of tflite and executorch files only"):
        require_targets({PARTITION: 1.0}, [Format.COREML])
    with pytest.raises(BadInputError, match="litert-gpu is of tflite files only"):
        require_targets({"litert-gpu": 1.0}, [Format.COREML, Format.EXECUTORCH])


def partition(*left: str) -> Delegation:
    lost = reasons([each for each in OPERATORS if each.kind in left], [rule(kind) for kind in left])
    return divided(OPERATORS, lost, delegate="XNNPACK", target="litert-xnnpack")


def test_both_shares_have_to_reach_the_limit() -> None:
    few_operators, few_macs = partition("gather"), partition("matmul")
    assert (few_operators.fraction, few_operators.macs_fraction) == (0.9, 1.0)
    assert (few_macs.fraction, few_macs.macs_fraction) == (0.9, 0.8)
    for limit, faults in ((0.9, 0), (0.91, 1)):
        assert len(delegation_faults({PARTITION: limit}, Format.TFLITE, few_operators)) == faults
    assert len(delegation_faults({PARTITION: 0.9}, Format.TFLITE, few_macs)) == 1


def test_the_sentence_names_operators_and_reasons() -> None:
    (fault,) = delegation_faults({PARTITION: 0.98}, Format.TFLITE, partition("gather", "matmul"))
    assert "XNNPACK takes 8 of 10 operators (80.0%) and 80.0% of the multiply-accumulates" in fault
    assert "at least 98.0%" in fault
    assert "gather of 0 (gather is not taken); matmul of 200 (matmul is not taken)" in fault


def test_a_forecast_is_gated_where_it_is_named_only() -> None:
    forecasts = (told(rule("matmul")),)
    assert delegation_faults({PARTITION: 0.98}, Format.COREML, None, forecasts) == ()
    (fault,) = delegation_faults({"coreml-ane": 0.98}, Format.COREML, None, forecasts)
    assert "is foretold to take" in fault
    assert delegation_faults({"coreml-ane": 0.98}, Format.TFLITE, partition(), ()) == ()
    assert len(delegation_faults({"litert-xnnpack": 0.98}, Format.TFLITE, partition("gather"))) == 1


def test_a_file_no_runtime_loads_cannot_pass() -> None:
    (fault,) = delegation_faults({PARTITION: 0.5}, Format.TFLITE, None)
    assert "cannot be told" in fault


def test_a_fault_fails_an_artifact_and_keeps_what_else_failed() -> None:
    assert judged_with(Verdict.PASS, ("fine",), ()) == (Verdict.PASS, ("fine",))
    assert judged_with(Verdict.PASS, ("fine",), ("left",)) == (Verdict.FAIL, ("left",))
    assert judged_with(Verdict.FAIL, ("drift",), ("left",)) == (Verdict.FAIL, ("drift", "left"))
