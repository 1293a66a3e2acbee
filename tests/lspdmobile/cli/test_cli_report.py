"""What a run says of itself in report.json, report.html, report.md and the model card; the page in a real browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Exported


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
JOINTS = 14
PICTURES = 8


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_report_says_where_bytes_work_and_drift_are(exported: "Exported") -> None:
    report = read(exported.folder / "report.json")
    fusion = report["fusion"]
    assert sum(layer["macs"] for layer in fusion["layers"]) == fusion["macs"]
    assert sum(layer["params"] for layer in fusion["layers"]) == fusion["params"]
    assert {layer["name"] for layer in fusion["layers"]} >= set(fusion["certificate"]["int8"]["layers"])
    for artifact in report["artifacts"]:
        held = artifact["weight_bytes_by_layer"].values()
        assert sum(sum(each.values()) for each in held) == sum(artifact["weight_bytes_by_dtype"].values())
        parity = artifact["parity"]
        assert sum(parity["drift_histogram"]["counts"]) == PICTURES * JOINTS
        assert parity["drift_px"]["worst_joint"] in parity["per_joint_drift_px"]


def test_the_report_has_the_ranges_of_the_plan(exported: "Exported") -> None:
    (ranges,) = read(exported.folder / "report.json")["ranges"]
    plan = next(each for each in read(exported.folder / "plan.json")["plans"] if each["precision"] == "w8a8")
    assert ranges == {"artifacts": ["tflite w8a8"], "ranges": plan["ranges"]}


def test_the_page_the_summary_and_the_model_card_are_of_this_run(exported: "Exported") -> None:
    page, summary, card = (
        (exported.folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md", "MODEL_CARD.md")
    )
    assert "PASS: 2 of 2 artifacts passed on 8 pictures" in page
    assert "heatmap of the" in page
    assert "the budget of 40.00" in page
    assert summary.startswith("# colours: PASS")
    assert card.startswith("# Model card: colours")
    for artifact in read(exported.folder / "report.json")["artifacts"]:
        assert f"| {artifact['format']} {artifact['precision']} |" in summary
        assert f"| {artifact['file']} |" in card


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt install chromium)")
def test_the_page_of_a_run_opens_in_a_browser(exported: "Exported", tmp_path: Path) -> None:
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    page = (exported.folder / "report.html").as_uri()
    done = subprocess.run([CHROMIUM, *flags, page], capture_output=True, text=True, check=True, timeout=120)
    ladder = done.stdout.partition('<div class="ladder">')[2].partition("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]+)</th>', ladder) == [
        *("float student", "fused PyTorch", "tflite fp32", "tflite w8a8")
    ]
    assert done.stdout.count("<svg") == 3, "the drift of two files, and the ranges of one plan"
