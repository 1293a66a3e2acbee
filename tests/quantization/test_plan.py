import json
from typing import Any

import pytest

from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError
from quantization.plan import QuantizationPlan, TensorRange


def test_a_plan_survives_its_file() -> None:
    ranges = {"relu": TensorRange(low=0.0, high=1.5), "add_1": TensorRange(low=-2.0, high=0.1)}
    plan = QuantizationPlan(precision=Precision.W8A8, ranges=ranges, calibration_pictures=2, calibration_sha256="ab")
    assert QuantizationPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    "change", [{"precision": "w9"}, {"ranges": None}, {"ranges": {"relu": [1]}}, {"ranges": {"relu": ["low", 1]}}]
)
def test_a_damaged_plan_is_refused(change: dict[str, Any]) -> None:
    fields = {**QuantizationPlan(precision=Precision.W8A8).to_dict(), **change}
    with pytest.raises(BadInputError, match="not a quantization plan"):
        QuantizationPlan.from_dict(fields)
    with pytest.raises(BadInputError, match="not a quantization plan"):
        QuantizationPlan.from_dict({})
