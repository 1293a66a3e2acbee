import math
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any, get_args

import pytest

from lspdmobile.errors import BadInputError
from lspdmobile.fusion.kernel_costs import Kind
from lspdmobile.fusion.measurements import Machine, Measurements, Sample, cache_path, defaults
from lspdmobile.fusion.operations import AddOp, AffineOp, ConvOp, Dtype, Op
from lspdmobile.fusion.targets import TARGETS, Targets, default_targets, target_named, target_on
from lspdmobile.fusion.targets_table import targets_page

PAGE = Path(__file__).parents[3] / "docs" / "fusion_targets.md"
NAMES = ["litert-xnnpack", "executorch-xnnpack", "xnnpack-arm", "coreml-ane", "coreml-cpu"]
XNNPACKS = NAMES[:3]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
CASES = list(product(NAMES, DTYPES))


def conv(channels: int = 64, side: int = 32, kernel: int = 3, **changes: Any) -> ConvOp:
    """Describe a depthwise kernel that keeps the size; changes are other fields."""
    return ConvOp.same_size(channels, (kernel, kernel), side=side, **changes)


def add(channels: int = 64, side: int = 32) -> AddOp:
    """Describe an addition."""
    return AddOp(channels=channels, size=(side, side))


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests from what was measured here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_there_are_five_targets() -> None:
    assert list(TARGETS) == NAMES
    assert len(TARGETS) == 5
    assert {name: target.name for name, target in default_targets().items()} == {name: name for name in NAMES}


def test_an_unknown_target_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(BadInputError, match="unknown target 'toaster': choose from litert-xnnpack"):
        target_named("toaster")
    assert target_named("coreml-ane").name == "coreml-ane"


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="no prices for 'int4'"):
        TARGETS["coreml-cpu"].cost([add()], "int4")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_every_operator_has_a_price_on_every_target(name: str, dtype: Dtype) -> None:
    ops: list[Op] = [conv(kernel=kernel) for kernel in (1, 2, 3, 4, 5, 7, 9, 15)]
    ops += [conv(groups=1), conv(groups=1, kernel=1), conv(groups=4), conv(out_channels=128), conv(dilation=2)]
    ops += [conv(padding=(0, 2, 0, 2)), conv(stride=(2, 2)), add()]
    target = default_targets()[name]
    assert all(0 < target.cost([op], dtype) < math.inf for op in ops)
    norm = target.cost([AffineOp(channels=64, size=(32, 32))], dtype)
    assert (norm == math.inf) == ((name, dtype) == ("executorch-xnnpack", "int8"))


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_sequence_costs_the_sum_of_its_operators_and_nothing_costs_nothing(name: str, dtype: Dtype) -> None:
    target = default_targets()[name]
    ops: list[Op] = [conv(), add(), conv(kernel=7)]
    assert target.cost(ops, dtype) == pytest.approx(sum(target.cost([op], dtype) for op in ops))
    assert target.cost([], dtype) == 0


@pytest.mark.parametrize(("name", "dtype"), CASES)
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
def test_more_channels_and_larger_pictures_never_cost_less(name: str, dtype: Dtype, kernel: int) -> None:
    target = default_targets()[name]
    for groups in (None, 1):
        grown: list[list[Op]] = [
            [conv(channels, 32, kernel, groups=groups or channels) for channels in (8, 16, 64, 192, 512)],
            [conv(64, side, kernel, groups=groups or 64) for side in (16, 24, 32, 64, 128)],
        ]
        for ops in grown:
            costs = [target.cost([op], dtype) for op in ops]
            assert all(small <= large for small, large in pairwise(costs))


@pytest.mark.parametrize(("name", "dtype"), CASES)
@pytest.mark.parametrize(("channels", "side"), [(16, 32), (64, 16), (64, 32), (96, 24), (192, 32)])
def test_more_taps_never_cost_less(name: str, dtype: Dtype, channels: int, side: int) -> None:
    target = default_targets()[name]
    costs = [target.cost([conv(channels, side, kernel)], dtype) for kernel in (1, 3, 5, 7, 9, 11)]
    assert all(small <= large for small, large in pairwise(costs))


@pytest.mark.parametrize("name", XNNPACKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_xnnpack_never_merges_into_a_7x7_what_it_can_run_as_branches(name: str, dtype: Dtype) -> None:
    target = default_targets()[name]
    branches: list[Op] = [conv(dilation=d) for d in (1, 2, 3)]
    apart = target.cost([*branches, add(), add()], dtype)
    assert target.cost([conv(kernel=7)], dtype) > 3 * apart
    assert target.cost([conv(kernel=5), conv(dilation=3), add()], dtype) < target.cost([conv(kernel=7)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_neural_engine_merges_dilated_branches_into_a_7x7(dtype: Dtype) -> None:
    target = default_targets()["coreml-ane"]
    branches: list[Op] = [conv(dilation=d) for d in (1, 2, 3)]
    assert target.cost([conv(kernel=7)], dtype) < target.cost([*branches, add(), add()], dtype)


@pytest.mark.parametrize("name", XNNPACKS)
def test_dilation_costs_nothing_on_xnnpack(name: str) -> None:
    target = default_targets()[name]
    assert target.cost([conv(dilation=3)], "fp32") == target.cost([conv()], "fp32")


def test_a_pad_that_litert_needs_and_executorch_does_not_is_paid_by_litert_alone() -> None:
    needs, free = conv(stride=(2, 2)), conv(stride=(2, 2), padding=(0, 1, 0, 1))
    litert, executorch = default_targets()["litert-xnnpack"], default_targets()["executorch-xnnpack"]
    assert litert.cost([needs], "fp32") > litert.cost([free], "fp32")
    assert executorch.cost([needs], "fp32") <= executorch.cost([free], "fp32")


def test_broken_rules_say_why_an_operator_is_slow() -> None:
    target = default_targets()["litert-xnnpack"]
    (rule,) = target.broken_rules(conv(kernel=7), "fp32")
    assert "one channel at a time" in rule.text
    assert target.broken_rules(conv(dilation=2), "fp32") == ()


def slower(factor: float) -> Measurements:
    """Give the defaults' depthwise 3x3 layers, a factor slower, as if measured on this machine."""
    samples = tuple(
        Sample(target=each.target, dtype=each.dtype, op=each.op, microseconds=each.microseconds * factor)
        for each in defaults().samples
        if isinstance(each.op, ConvOp)
        and each.op.is_depthwise
        and each.op.kernel == (3, 3)
        and max(each.op.padding) < 2
        if each.target == "litert-xnnpack"
    )
    return Measurements(Machine.here(), "2020-01-02", samples)


def test_this_machines_measurements_replace_the_defaults_kernel_by_kernel() -> None:
    usual = default_targets()
    slower(10.0).write(cache_path())
    found = Targets()
    assert found["litert-xnnpack"].is_measured
    assert "2020-01-02" in found["litert-xnnpack"].provenance
    assert found["litert-xnnpack"].cost([conv()], "fp32") > 5 * usual["litert-xnnpack"].cost([conv()], "fp32")
    assert found["litert-xnnpack"].cost([add()], "fp32") == usual["litert-xnnpack"].cost([add()], "fp32")


def test_targets_that_were_not_measured_keep_the_defaults_and_say_so() -> None:
    slower(10.0).write(cache_path())
    found, usual = Targets(), default_targets()
    assert not found["executorch-xnnpack"].is_measured
    assert found["executorch-xnnpack"].provenance.startswith("defaults, measured on ")
    assert found["executorch-xnnpack"].prices == usual["executorch-xnnpack"].prices
    for name in NAMES[2:]:
        assert found[name].prices == usual[name].prices
        assert "not measured here" in found[name].provenance


def test_without_a_cache_the_defaults_apply() -> None:
    assert Targets()["litert-xnnpack"] == default_targets()["litert-xnnpack"]


def test_a_damaged_cache_leaves_the_defaults() -> None:
    path = cache_path()
    path.parent.mkdir()
    path.write_text("{", encoding="utf-8")
    assert Targets()["litert-xnnpack"] == default_targets()["litert-xnnpack"]


def test_the_fit_meets_its_own_samples_within_a_factor() -> None:
    """Half of the samples are met within 15 %, all above a microsecond within a factor of 2.5."""
    shipped = defaults()
    for name in NAMES[:2]:
        target = target_on(name, shipped)
        factors = sorted(
            max(ratio := target.cost([each.op], each.dtype) / each.microseconds, 1 / ratio)
            for each in shipped.samples
            if each.target == name and each.microseconds > 1
        )
        assert factors[len(factors) // 2] < 1.15
        assert factors[-1] < 2.5


def test_prices_exist_for_every_kernel_a_rule_leads_to() -> None:
    for target in default_targets().values():
        kinds = {rule.runs_as for rule in target.rules if rule.runs_as}
        assert all(kinds <= prices.keys() for prices in target.prices.values())
        assert all(Kind.ADD in prices for prices in target.prices.values())


def test_the_page_is_up_to_date() -> None:
    command = "python -m lspdmobile.fusion.targets_table docs/fusion_targets.md"
    assert PAGE.read_text(encoding="utf-8") == targets_page(), f"run {command}"


def test_the_page_has_every_rule_of_every_target() -> None:
    page = targets_page()
    for target in default_targets().values():
        section = page.split(f"## {target.name}\n")[1].split("\n## ")[0]
        assert all(f"| {rule.name} |" in section and rule.source in section for rule in target.rules)


def test_asking_for_costs_loads_no_runtime() -> None:
    code = (
        "import sys; from lspdmobile.fusion.targets import TARGETS; TARGETS['litert-xnnpack'];"
        "print([m for m in ('coremltools', 'executorch', 'ai_edge_litert', 'litert_torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
