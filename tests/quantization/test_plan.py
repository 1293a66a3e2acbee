import json
from typing import Any

import pytest

from lspdmobile.choices import Estimator, Precision, parse_precisions
from lspdmobile.errors import BadInputError
from quantization.plan import Estimation, QuantizationPlan, TensorRange


def test_a_plan_survives_its_file() -> None:
    ranges = {"relu": TensorRange(low=0.0, high=1.5), "add_1": TensorRange(low=-2.0, high=0.1)}
    plan = QuantizationPlan(precision=Precision.W8A8, ranges=ranges, calibration_pictures=2, calibration_sha256="ab")
    assert QuantizationPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("name", ["fp32", "fp16", "w8", "w4", "w8a8", "w8a16", "palette6", "palette4"])
def test_every_recipe_survives_its_file(name: str) -> None:
    (precision,) = parse_precisions(name)
    ranges = {"relu": TensorRange(low=0.0, high=1.5)} if precision.is_static_integer else {}
    plan = QuantizationPlan(precision=precision, ranges=ranges, calibration_sha256="ab")
    fields = json.loads(json.dumps(plan.to_dict()))
    assert fields["precision"] == name
    assert QuantizationPlan.from_dict(fields) == plan


def test_a_plan_says_how_many_bits_weights_and_activations_have() -> None:
    def bits(what: str, precision: Precision) -> int | None:
        described = QuantizationPlan(precision=precision).to_dict()[what]
        return described["bits"] if described else None

    weights = {p.value: bits("weights", p) for p in Precision}
    palettes = {"palette6": None, "palette4": None}
    assert weights == {"fp32": None, "fp16": None, "w8": 8, "w4": 4, "w8a8": 8, "w8a16": 8, **palettes}
    activations = {p.value: number for p in Precision if (number := bits("activations", p))}
    assert activations == {"w8a8": 8, "w8a16": 16}


@pytest.mark.parametrize(
    "change", [{"precision": "w9"}, {"ranges": None}, {"ranges": {"relu": [1]}}, {"ranges": {"relu": ["low", 1]}}]
)
def test_a_damaged_plan_is_refused(change: dict[str, Any]) -> None:
    fields = {**QuantizationPlan(precision=Precision.W8A8).to_dict(), **change}
    with pytest.raises(BadInputError, match="not a quantization plan"):
        QuantizationPlan.from_dict(fields)
    with pytest.raises(BadInputError, match="not a quantization plan"):
        QuantizationPlan.from_dict({})


def test_a_plan_says_how_its_ranges_were_made_and_which_were_made_otherwise() -> None:
    ranges = {
        "relu": TensorRange(low=0.0, high=1.5),
        "heatmaps": TensorRange(low=-2.0, high=0.1, estimator=Estimator.MIN_MAX),
    }
    estimation = Estimation(estimator=Estimator.PERCENTILE, percentile=99.9, clip_output=True)
    plan = QuantizationPlan(precision=Precision.W8A8, ranges=ranges, estimation=estimation)
    fields = json.loads(json.dumps(plan.to_dict()))
    assert fields["schema_version"] == 1
    assert fields["ranges"] == {"relu": [0.0, 1.5], "heatmaps": [-2.0, 0.1]}
    assert fields["range_estimators"] == {"heatmaps": "min-max"}
    assert fields["activations"]["estimator"] == "percentile"
    assert (fields["activations"]["percentile"], fields["activations"]["clip_output"]) == (99.9, True)
    assert "momentum" not in fields["activations"]
    assert QuantizationPlan.from_dict(fields) == plan


def test_a_plan_written_before_there_were_estimators_is_read() -> None:
    fields = {
        "schema_version": 1,
        "precision": "w8a8",
        "activations": {"bits": 8, "granularity": "per-tensor", "symmetric": False, "estimator": "min-max"},
        "calibration_pictures": 48,
        "calibration_sha256": "ab",
        "ranges": {"relu": [0.0, 1.5]},
    }
    plan = QuantizationPlan.from_dict(fields)
    assert plan.ranges == {"relu": TensorRange(low=0.0, high=1.5)}
    assert (plan.estimation, plan.calibration_pictures) == (Estimation(), 48)


def test_a_min_max_plan_is_written_as_it_always_was() -> None:
    plan = QuantizationPlan(precision=Precision.W8A8, ranges={"relu": TensorRange(low=0.0, high=1.5)})
    fields = plan.to_dict()
    assert "range_estimators" not in fields
    assert list(fields["activations"]) == ["bits", "granularity", "symmetric", "estimator"]


@pytest.mark.parametrize("change", [{"momentum": 1.0}, {"momentum": -0.1}, {"percentile": 50.0}, {"percentile": 101.0}])
def test_numbers_that_make_no_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match="is usual"):
        Estimation(**change)  # type: ignore[arg-type]
