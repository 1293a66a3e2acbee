"""A student with one channel far louder than the rest: int8 loses it; ``--repair`` and ``--methods`` mend the files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from lspdmobile.report.manifest import file_entries

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, World


BAD_INPUT, GATE_FAILED = 2, 3
ROOM = 40  # points: eight pictures of which none changes leave room for 37
LOUDNESS = 3000.0


def one_loud_channel(tensors: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
    """Make a channel of the stem louder, and what takes it quieter: the same network, in float."""
    for name in ("weight", "bias"):
        tensors[f"backbone.stem.norm.{name}"][0] *= LOUDNESS
    tensors["backbone.levels.0.0.conv.weight"][:, 0] /= LOUDNESS


@pytest.fixture
def loud(world: "World") -> list[object]:
    """Give the arguments of an int8 export of that student."""
    arguments = ["-f", "tflite,executorch", "-p", "w8a8", "--data", world.people, "--calib", world.people]
    arguments += ["--methods", "none", "--max-drop", ROOM]
    return ["export", world.rewrite(one_loud_channel), *arguments, "-o", world.output]


def test_repair_names_the_channel_and_keeps_two_operators_in_float(
    loud: list[object], cli: "Cli", world: "World"
) -> None:
    done = cli(*loud, "--repair", "--json")
    assert done.code == 0, done.out
    (repair,) = done.json["repairs"]
    assert repair["artifacts"] == ["tflite w8a8", "executorch w8a8"]
    assert repair["passed"]
    assert repair["kept_float"] == ["relu", "relu_1"]
    assert "outlier channel 0 of relu has " in repair["causes"][0]["cause"]
    assert not repair["trials"][0]["passed"]
    assert len(repair["trials"]) < repair["exhaustive"] == repair["operators"]
    plan = json.loads((world.output / "plan.json").read_text(encoding="utf-8"))["plans"]
    assert [each["kept_float"] for each in plan] == [["relu", "relu_1"]]
    page = (world.output / "report.html").read_text(encoding="utf-8")
    assert "Every network that was judged" in page
    assert "outlier channel 0 of relu" in page
    assert cli("verify", world.output).code == 0


def test_equalization_mends_what_the_gate_refuses(loud: list[object], world: "World", cli: "Cli") -> None:
    refused = cli(*loud, "--json")
    assert refused.code == GATE_FAILED
    assert [artifact["verdict"] for artifact in refused.json["artifacts"]] == ["fail"] * 2
    done = cli(*loud, "-f", "coreml,tflite", "--overwrite", "--methods", "equalization")
    assert done.code == 0, done.out
    plans = json.loads((world.output / "plan.json").read_text(encoding="utf-8"))["plans"]
    assert [plan["weights_file"] for plan in plans] == ["plan_0.safetensors", "plan_1.safetensors"]
    assert [plan["methods"][0]["method"] for plan in plans] == ["equalization"] * 2
    assert cli("verify", world.output).code == 0
    _exchange_the_weights(world.output)
    tampered = cli("verify", world.output, "--json")
    assert tampered.code == GATE_FAILED
    assert "plan_0.safetensors: is not what the manifest lists" in " ".join(tampered.json["artifacts"][0]["reasons"])
    _list_the_weights(world.output)
    found = cli("verify", world.output, "--json")
    assert found.code == GATE_FAILED
    assert "does not hold the weights of the plan's network" in " ".join(found.json["artifacts"][0]["reasons"])


def _exchange_the_weights(run: Path) -> None:
    """Put one network's weights where another's belong."""
    (run / "plan_0.safetensors").write_bytes((run / "plan_1.safetensors").read_bytes())


def _list_the_weights(run: Path) -> None:
    """Let the manifest list the first plan's weights as they are."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["plan_0.safetensors"] = file_entries(run, ["plan_0.safetensors"])[
        "plan_0.safetensors"
    ].model_dump()
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_an_unknown_method_is_refused(student_file: Path, tmp_path: Path, cli: "Cli") -> None:
    done = cli("export", student_file, "--methods", "rounding,prayer", "-o", tmp_path / "run")
    assert done.code == BAD_INPUT
    assert "unknown method 'prayer': choose from equalization" in done.err
