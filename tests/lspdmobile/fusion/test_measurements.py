import json
import logging
from pathlib import Path
from typing import Any

import pytest

from lspdmobile.errors import BadInputError
from lspdmobile.fusion.kernel_costs import Kind
from lspdmobile.fusion.measurements import (
    SCHEMA_VERSION,
    Machine,
    Measurements,
    Sample,
    cache_path,
    defaults,
    measured_here,
)
from lspdmobile.fusion.operations import AddOp, AffineOp, ConvOp, Dtype, Op
from lspdmobile.fusion.rules import LITERT

ELSEWHERE = Machine(processor="a slide rule", versions={"executorch": "0.0.1"})


def conv(channels: int, **changes: Any) -> ConvOp:
    """Describe a depthwise 3x3 that keeps 16x16; changes are other fields."""
    return ConvOp.same_size(channels, **changes)


def measurements(machine: Machine, *timed: tuple[Op, float], dtype: Dtype = "fp32") -> Measurements:
    """Make the measurements of a LiteRT on some machine."""
    samples = tuple(Sample(target="litert-xnnpack", dtype=dtype, op=op, microseconds=time) for op, time in timed)
    return Measurements(machine, "2020-01-02", samples)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's file, in a cache folder that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_path()


def test_what_is_written_is_read_back_whatever_the_shape(tmp_path: Path) -> None:
    ops: list[Op] = [conv(8), AddOp(channels=4, size=(2, 3)), AffineOp(channels=4, size=(2, 3))]
    wrote = measurements(ELSEWHERE, *((op, float(number)) for number, op in enumerate(ops)))
    wrote.write(tmp_path / "new" / "folder" / "file.json")
    assert Measurements.read(tmp_path / "new" / "folder" / "file.json") == wrote
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["file.json"]


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_path().parent == tmp_path / "lspdmobile"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/not/allowed")
    assert cache_path().parent == Path.home() / ".cache" / "lspdmobile"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_path().parent == Path.home() / ".cache" / "lspdmobile"


def test_another_processor_and_another_runtime_have_other_files() -> None:
    newer = Machine(processor=ELSEWHERE.processor, versions={"executorch": "0.0.2"})
    other = Machine(processor="an abacus", versions=ELSEWHERE.versions)
    assert len({cache_path(machine) for machine in (ELSEWHERE, newer, other)}) == 3


def test_this_machine_names_its_processor_and_runtimes() -> None:
    here = Machine.here()
    assert here.processor
    assert {"ai-edge-litert", "executorch"} >= here.versions.keys()
    assert all(version in here.text for version in here.versions.values())


def test_no_cache_no_measurements_and_nothing_is_said(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not cache.exists()
    assert measured_here() is None
    assert caplog.records == []


def test_this_machines_cache_is_used(cache: Path) -> None:
    wrote = measurements(Machine.here(), (conv(8), 5.0))
    wrote.write(cache)
    assert measured_here() == wrote


def damage_text(text: str) -> str:
    """Cut a file off in its middle."""
    return text[: len(text) // 2]


def damage_version(text: str) -> str:
    """Give a file another schema version."""
    return json.dumps({**json.loads(text), "schema_version": SCHEMA_VERSION + 1})


def damage_shape(text: str) -> str:
    """Give the first sample a shape that no convolution has."""
    fields = json.loads(text)
    fields["samples"][0]["groups"] = 3
    return json.dumps(fields)


def damage_field(text: str) -> str:
    """Take a field from the first sample."""
    fields = json.loads(text)
    del fields["samples"][0]["kernel"]
    return json.dumps(fields)


def damage_machine(text: str) -> str:
    """Name another machine."""
    return json.dumps({**json.loads(text), "machine": {"processor": "a slide rule", "versions": {}}})


@pytest.mark.parametrize("damage", [damage_text, damage_version, damage_shape, damage_field, damage_machine])
def test_a_cache_that_cannot_be_used_is_left_out_whole_with_one_warning(
    cache: Path, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    measurements(Machine.here(), (conv(8), 5.0)).write(cache)
    cache.write_text(damage(cache.read_text(encoding="utf-8")), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert measured_here() is None
    assert len(caplog.records) == 1
    assert str(cache) in caplog.text
    assert "default costs are used" in caplog.text


def test_a_cache_that_is_a_folder_is_left_out(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.mkdir(parents=True)
    assert measured_here() is None
    assert len(caplog.records) == 1


def test_a_file_of_another_version_says_which_and_how_to_mend_it(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    measurements(ELSEWHERE, (conv(8), 5.0)).write(path)
    path.write_text(damage_version(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(BadInputError, match=r"schema version 2, not 1; run benchmarks/fusion_cost\.py"):
        Measurements.read(path)


def test_an_extra_operator_costs_what_its_layer_takes_beyond_the_kernel() -> None:
    padded = conv(8, padding=(0, 2, 0, 2))
    prices = measurements(ELSEWHERE, (conv(8), 10.0), (padded, 13.0)).profile("litert-xnnpack", LITERT)["fp32"]
    elements = 8 * 18 * 18
    assert prices[Kind.PAD].op_us + prices[Kind.PAD].element_ns * elements / 1000 == pytest.approx(3.0)


def test_dtypes_and_targets_are_priced_apart() -> None:
    taken = measurements(ELSEWHERE, (conv(8), 10.0), dtype="int8")
    assert taken.profile("litert-xnnpack", LITERT)["fp32"] == {}
    assert taken.profile("litert-xnnpack", LITERT)["int8"].keys() == {Kind.DEPTHWISE_9}
    assert taken.profile("executorch-xnnpack", LITERT)["int8"] == {}


def test_the_defaults_say_where_and_when_they_were_measured() -> None:
    found = defaults()
    assert found.machine.processor
    assert found.machine.versions.keys() == {"ai-edge-litert", "executorch"}
    assert len(found.taken.split("-")) == 3
    assert found.targets == {"litert-xnnpack", "executorch-xnnpack"}
