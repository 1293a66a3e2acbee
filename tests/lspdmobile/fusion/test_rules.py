from typing import Any

import pytest

from lspdmobile.fusion.kernel_costs import Kind
from lspdmobile.fusion.operations import AddOp, AffineOp, ConvOp, Dtype, Op
from lspdmobile.fusion.rules import COREML_ANE, COREML_CPU, EXECUTORCH, LITERT, XNNPACK, Effect, Rule, steps_of

EVERY: dict[str, tuple[Rule, ...]] = {
    "xnnpack": XNNPACK,
    "litert": LITERT,
    "executorch": EXECUTORCH,
    "ane": COREML_ANE,
    "cpu": COREML_CPU,
}


def conv(**changes: Any) -> ConvOp:
    """Describe a depthwise 3x3 of 8 channels that keeps 16x16; changes are other fields."""
    return ConvOp.same_size(8, **changes)


SEVEN = conv(kernel=(7, 7))
DILATED = conv(dilation=2)
STRIDED = conv(stride=(2, 2))
BEHIND = conv(stride=(2, 2), padding=(0, 1, 0, 1))
NORM = AffineOp(channels=8, size=(16, 16))


def broken(rules: tuple[Rule, ...], op: Op, dtype: Dtype = "fp32") -> set[str]:
    """Name the rules that take an operator off the fast path."""
    return {rule.name for rule in rules if rule.effect is not Effect.FREE and rule.applies(op, dtype)}


@pytest.mark.parametrize("target", ["xnnpack", "litert", "executorch"])
@pytest.mark.parametrize("op", [conv(), DILATED, conv(kernel=(5, 5), padding=(2, 2, 2, 2)), conv(groups=1)])
def test_xnnpack_runs_small_and_dilated_kernels_fast(target: str, op: Op) -> None:
    assert broken(EVERY[target], op) == broken(EVERY[target], op, "int8") == set()


@pytest.mark.parametrize("target", ["xnnpack", "litert", "executorch"])
def test_xnnpack_runs_large_depthwise_kernels_and_multipliers_one_channel_at_a_time(target: str) -> None:
    for op, name in (
        (SEVEN, "depthwise of more than 25 taps"),
        (conv(out_channels=16), "depthwise with a channel multiplier"),
    ):
        assert broken(EVERY[target], op) == {name}
        steps = steps_of(op, "fp32", EVERY[target])
        assert steps is not None
        assert [step.kind for step in steps] == [Kind.DEPTHWISE_LARGE]


def test_a_dense_7x7_is_no_large_depthwise_kernel() -> None:
    assert broken(XNNPACK, conv(groups=1, kernel=(7, 7), padding=(3, 3, 3, 3))) == set()


@pytest.mark.parametrize(
    ("op", "pads"),
    [
        (conv(), False),
        (conv(padding=(0, 0, 0, 0)), False),
        (STRIDED, True),
        (BEHIND, False),
        (conv(stride=(2, 2), in_size=(15, 15)), False),
        (conv(padding=(3, 3, 3, 3)), True),
        (conv(padding=(0, 2, 0, 2)), True),
        (conv(kernel=(4, 4), padding=(1, 2, 1, 2)), False),
        (conv(kernel=(4, 4), padding=(2, 1, 2, 1)), True),
        (conv(dilation=2, padding=(1, 1, 1, 1)), True),
    ],
)
def test_litert_pads_apart_what_is_neither_same_nor_valid(op: ConvOp, pads: bool) -> None:
    steps = steps_of(op, "fp32", LITERT)
    assert steps is not None
    assert [step.kind for step in steps[1:]] == [Kind.PAD] * pads
    if pads:
        rows = op.in_size[0] + op.padding[0] + op.padding[1]
        columns = op.in_size[1] + op.padding[2] + op.padding[3]
        assert steps[1].features.elements == 8 * rows * columns


def test_executorch_pads_apart_what_is_not_symmetric() -> None:
    assert broken(EXECUTORCH, STRIDED) == set()
    assert broken(EXECUTORCH, BEHIND) == {"asymmetric padding"}


def test_executorch_runs_a_norm_as_a_depthwise_1x1_and_refuses_it_in_int8() -> None:
    steps = steps_of(NORM, "fp32", EXECUTORCH)
    assert steps is not None
    assert [step.kind for step in steps] == [Kind.DEPTHWISE_1]
    assert steps_of(NORM, "int8", EXECUTORCH) is None


@pytest.mark.parametrize("op", [DILATED, conv(kernel=(1, 15), padding=(0, 0, 7, 7))])
def test_the_neural_engine_is_left_by_dilated_and_by_very_wide_kernels(op: ConvOp) -> None:
    steps = steps_of(op, "fp32", COREML_ANE)
    assert steps is not None
    assert [step.kind for step in steps] == [Kind.FALLBACK]


def test_the_neural_engine_takes_a_7x7() -> None:
    assert broken(COREML_ANE, SEVEN) == broken(COREML_ANE, SEVEN, "int8") == set()


def test_the_cpu_gains_nothing_from_integers() -> None:
    assert broken(COREML_CPU, conv()) == set()
    assert broken(COREML_CPU, conv(), "int8") == {"int8 activations"}


@pytest.mark.parametrize("rules", EVERY.values(), ids=EVERY)
def test_every_rule_can_be_read_and_no_name_is_given_twice(rules: tuple[Rule, ...]) -> None:
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.text.endswith(".") and rule.source and rule.checked for rule in rules)


@pytest.mark.parametrize("rules", EVERY.values(), ids=EVERY)
def test_an_addition_breaks_no_rule_but_that_of_integers_on_the_cpu(rules: tuple[Rule, ...]) -> None:
    add = AddOp(channels=8, size=(16, 16))
    assert broken(rules, add) == set()
    assert broken(rules, add, "int8") <= {"int8 activations"}
