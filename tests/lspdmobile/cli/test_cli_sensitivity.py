"""``lspdmobile sensitivity``: a planted loud channel is named first; nothing known is measured again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from lspdmobile.choices import Precision
from lspdmobile.data.views import load_views
from lspdmobile.fusion import fuse
from lspdmobile.measuring import reference_of
from lspdmobile.mixed_drops import drops_of
from lspdmobile.student import load_student
from quantization.calibrate import calibrate
from quantization.mixed import MixedNetwork

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, World


BAD_INPUT = 2
LOUDNESS = 3000.0


def one_loud_channel(tensors: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
    """Make a channel of the stem louder, and what takes it quieter: the same network, in float."""
    for name in ("weight", "bias"):
        tensors[f"backbone.stem.norm.{name}"][0] *= LOUDNESS
    tensors["backbone.levels.0.0.conv.weight"][:, 0] /= LOUDNESS


@pytest.fixture
def loud(world: "World") -> list[object]:
    """Give the arguments of a look at that student."""
    pictures = ["--data", world.people, "--calib", world.people]
    return ["sensitivity", world.rewrite(one_loud_channel), *pictures, "--methods", "none"]


def test_the_loud_channel_is_named_first_and_costs_what_it_costs(
    loud: list[object], cli: "Cli", world: "World"
) -> None:
    done = cli(*loud, "-o", world.output, "--json")
    assert done.code == 0, done.err
    found = done.json
    assert json.loads((world.output / "sensitivity.json").read_text(encoding="utf-8")) == found
    first = found["parts"][0]
    assert (first["name"], first["kind"], first["units"]) == ("relu", "tensor", ["relu", "relu_1"])
    assert first["cause"].startswith("outlier channel 0 of relu has ")
    assert first["snr_alone_db"] == pytest.approx(found["snr_db"], abs=1), "it makes nearly all the noise"
    assert first["snr_left_out_db"] > found["snr_db"] + 6
    assert found["metric"] == "pck@0.2"
    assert found["drop"] > 5
    assert first["drop_alone"] > 5
    assert first["drop_left_out"] < found["drop"] - 5
    measured = [part for part in found["parts"] if part["drop_alone"] is not None]
    assert measured == [part for part in found["parts"] if max(part["share"], part["gain"]) >= 0.01]
    assert found["evaluations"] == 2 * len(measured)
    assert {part["kind"] for part in found["parts"]} == {"operator", "tensor", "block"}


def test_what_is_known_is_not_measured_again_and_threads_change_nothing(
    loud: list[object], cli: "Cli", world: "World"
) -> None:
    look = [*loud, "-o", world.output, "--json"]
    first = cli(*look, "--top", "2", "--jobs", "1").json
    assert (first["evaluations"], first["reused"]) == (4, 0)
    second = cli(*look, "--top", "3", "--jobs", "3").json
    assert (second["evaluations"], second["reused"]) == (2, 4)
    _move_a_label(world)
    refused = cli(*look)
    assert refused.code == BAD_INPUT
    assert "of another network, plan or pictures" in refused.err
    _move_a_label(world, back=True)
    fresh = cli(*loud, "--json", "--top", "3", "--jobs", "3").json
    assert (fresh["evaluations"], fresh["reused"]) == (6, 0)
    assert fresh["parts"] == second["parts"]
    assert (fresh["drop"], fresh["key"]) == (second["drop"], second["key"])


def test_other_labels_are_measured_anew_with_overwrite(loud: list[object], cli: "Cli", world: "World") -> None:
    look = [*loud, "--no-metric", "-o", world.output, "--json"]
    before = cli(*look).json
    _move_a_label(world)
    after = cli(*look, "--overwrite").json
    assert after["key"] != before["key"]
    assert after["parts"] == before["parts"], "screening needs no labels"


def _move_a_label(world: "World", *, back: bool = False) -> None:
    labels = world.people / "annotations" / "person_keypoints_val.json"
    moved = json.loads(labels.read_text(encoding="utf-8"))
    for note in moved["annotations"]:
        note["keypoints"][0] += -8 if back else 8
    labels.write_text(json.dumps(moved), encoding="utf-8")


def test_a_folder_of_something_else_and_a_damaged_file_are_refused(
    loud: list[object], cli: "Cli", world: "World"
) -> None:
    folder = world.folder / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("mine", encoding="utf-8")
    for more in ([], ["--overwrite"]):
        done = cli(*loud, "-o", folder, *more)
        assert done.code == BAD_INPUT
        assert "is not the folder of an earlier run" in done.err
    (folder / "chapter.txt").rename(folder / "sensitivity.json")
    done = cli(*loud, "-o", folder)
    assert done.code == BAD_INPUT
    assert "sensitivity.json: not JSON" in done.err


def test_blocks_alone_without_the_metric(loud: list[object], cli: "Cli") -> None:
    done = cli(*loud, "--granularity", "block", "--no-metric", "--json")
    assert done.code == 0
    assert {part["kind"] for part in done.json["parts"]} == {"block"}
    assert done.json["evaluations"] == 0
    assert all(part["drop_alone"] is None for part in done.json["parts"])
    wrong = cli(*loud, "--granularity", "layer")
    assert wrong.code == BAD_INPUT
    assert "unknown --granularity 'layer': choose op, block or all" in wrong.err


def test_the_table_shows_what_matters_and_why_and_pictures_are_enough(
    loud: list[object], cli: "Cli", world: "World"
) -> None:
    look = ["sensitivity", loud[1], "--calib", world.people, "--data", world.people / "images"]
    look += ["--methods", "none", "-o", world.output]
    done = cli(*look)
    assert done.code == 0
    assert "outlier channel 0 of relu has " in done.out
    assert "left out" in done.out
    assert "points" not in done.out, "no labels, no metric"
    assert "stage.heatmap" not in done.out
    assert "stage.heatmap" in cli(*look, "--all").out


def test_parts_cost_what_whole_networks_lose(student_file: Path, people: Path) -> None:
    student = load_student(str(student_file))
    views = load_views(people, student.contract, student.skeleton)
    fused = fuse(student.network, input_size=student.contract.input_size).network
    plan = calibrate(fused, views.inputs(), precision=Precision.W8A8)
    network, reference = MixedNetwork(fused, plan, student.contract.input_size), reference_of(student, views, quiet)
    names = list(network.units)
    sets = [frozenset[str](), frozenset(names[:1]), frozenset(names[2:]), frozenset(names)]
    found = drops_of(network, reference, sets, jobs=2)
    whole = [reference.compared_with(network.heatmaps(views.inputs(), kept=kept)).drop for kept in sets]
    assert found == whole
    assert found[-1] is not None
    assert found[-1].drop == pytest.approx(0, abs=1e-9), "all in float is the student itself"


def quiet(*_: object) -> None:
    """Report no progress."""
