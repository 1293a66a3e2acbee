"""report.json: keys, null for what does not exist, and readers that answer in one line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from lspdmobile.errors import BadInputError
from lspdmobile.parity.compare import Parity
from lspdmobile.report.schema import MetricEntry, ParityEntry, Report, read_report

TOP_KEYS = ["schema_version", "student", "reference", "fusion", "plan", "artifacts", "verdict", "environment"]
ARTIFACT_KEYS = [
    *("file", "format", "precision", "bytes", "sha256", "params", "macs", "weight_bytes_by_dtype", "executed_by"),
    *("export_seconds", "latency_ms", "delegation", "parity", "verdict", "reasons"),
]


def _written(report: Report, folder: Path) -> dict[str, Any]:
    report.write(folder / "report.json")
    fields: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return fields


def test_the_keys_are_those_of_the_contract_in_its_order(report: Report, tmp_path: Path) -> None:
    fields = _written(report, tmp_path)
    assert list(fields)[: len(TOP_KEYS)] == TOP_KEYS
    artifact = fields["artifacts"][0]
    assert list(artifact)[: len(ARTIFACT_KEYS)] == ARTIFACT_KEYS
    assert {"delegated", "total", "fraction", "not_delegated"} <= set(artifact["delegation"])
    assert {"images", "heatmap_snr_db", "heatmap_max_abs", "drift_px", "metric"} <= set(artifact["parity"])
    assert {"mean", "p95", "max", "worst_image"} <= set(artifact["parity"]["drift_px"])
    assert list(artifact["parity"]["metric"])[:5] == ["name", "float", "artifact", "drop", "ci95"]


def test_what_is_written_reads_back_equal(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report.write(path)
    assert read_report(path) == report
    assert path.read_bytes().endswith(b"}\n")


def test_writing_twice_gives_the_same_bytes(report: Report, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    report.write(first)
    read_report(first).write(second)
    assert first.read_bytes() == second.read_bytes()


def test_numbers_that_do_not_exist_are_null(parity: Parity) -> None:
    broken = Parity(
        images=2,
        heatmap_snr_db=math.inf,
        heatmap_max_abs=math.nan,
        heatmap_relative_error=-math.inf,
        drift_px=parity.drift_px,
        cell_px=8,
    )
    fields = json.loads(ParityEntry.of(broken, None).model_dump_json())
    assert [fields[k] for k in ("heatmap_snr_db", "heatmap_max_abs", "heatmap_relative_error", "metric")] == [None] * 4


def test_unknown_keys_survive_a_round_trip(report: Report, tmp_path: Path) -> None:
    fields = _written(report, tmp_path)
    fields["artifacts"][0]["peak_memory_mb"] = 12
    path = tmp_path / "newer.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    read_report(path).write(path)
    assert json.loads(path.read_text(encoding="utf-8"))["artifacts"][0]["peak_memory_mb"] == 12


def test_a_metric_is_spelled_float_in_the_file_and_float_value_in_code(report: Report) -> None:
    first = report.artifacts[0].parity
    assert first is not None
    assert isinstance(first.metric, MetricEntry)
    assert first.metric.float_value == 0.6123


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda f: f.pop("artifacts"), "artifacts: Field required"),
        (lambda f: f.update(schema_version=2), "schema_version is 2, this lspdmobile reads 1"),
        (lambda f: f.pop("schema_version"), "schema_version is None"),
        (lambda f: f["artifacts"][1].update(verdict="maybe"), "artifacts.1.verdict"),
        (lambda f: f["artifacts"][0]["parity"]["metric"].pop("float"), "artifacts.0.parity.metric.float"),
    ],
)
def test_a_damaged_report_is_one_line(report: Report, tmp_path: Path, plant: Any, said: str) -> None:
    fields = _written(report, tmp_path)
    plant(fields)
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(BadInputError) as caught:
        read_report(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_file_that_is_no_json_object_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(BadInputError) as caught:
        read_report(path)
    assert "\n" not in str(caught.value)


def test_a_missing_report_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="give the folder of a finished run"):
        read_report(tmp_path / "report.json")
