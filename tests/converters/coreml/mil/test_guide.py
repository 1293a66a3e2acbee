"""The guide's code is code that runs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lspdmobile.choices import Precision

ROOT = Path(__file__).parents[4]


def test_the_guides_code_runs(packages: Mapping[Precision, Path]) -> None:
    text = (ROOT / "docs" / "mil_executor.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = "\n".join(blocks).replace("(1, 3, 192, 192)", "(1, 3, 64, 48)")
    code = code.replace("runs/demo/lspd-s_float16.mlpackage", packages[Precision.FP16].as_posix())
    found: dict[str, Any] = {}
    exec(code, found)
    assert len(blocks) == 2
    assert found["heatmaps"].shape == (1, 5, 32, 24)
    assert found["many"].shape == (32, 5, 32, 24)
    assert set(found["inside"]) == {"relu_cast_fp16", "heatmaps"}
    assert "heatmaps" in found["names"]
