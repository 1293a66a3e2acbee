"""``export --methods``: what a loud channel costs is mended in the weights, and a run can be compared with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from lspdmobile.report.manifest import file_entries

BAD_INPUT, GATE_FAILED = 2, 3
LOUDNESS = 3000.0


class Done(Protocol):
    """A finished command."""

    code: int
    out: str
    err: str
    json: Any


class World(Protocol):
    """See the fixture ``world``."""

    people: Path
    output: Path

    def rewrite(self, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], None]) -> Path:
        """Write a copy of the student whose tensors or header were changed."""


Cli = Callable[..., Done]


def one_loud_channel(tensors: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
    """Make a channel of the stem louder, and what takes it quieter: the same network, in float."""
    for name in ("weight", "bias"):
        tensors[f"backbone.stem.norm.{name}"][0] *= LOUDNESS
    tensors["backbone.levels.0.0.conv.weight"][:, 0] /= LOUDNESS


def test_equalization_mends_what_the_gate_refuses(world: World, cli: Cli) -> None:
    student = world.rewrite(one_loud_channel)
    arguments = ["-f", "coreml,tflite", "-p", "w8a8", "--data", world.people, "--calib", world.people]
    assert cli("export", student, *arguments, "-o", world.output).code == GATE_FAILED
    done = cli("export", student, *arguments, "-o", world.output, "--overwrite", "--methods", "equalization")
    assert done.code == 0, done.out
    plans = json.loads((world.output / "plan.json").read_text(encoding="utf-8"))["plans"]
    assert [plan["weights_file"] for plan in plans] == ["plan_0.safetensors", "plan_1.safetensors"]
    assert [plan["methods"][0]["method"] for plan in plans] == ["equalization"] * 2
    assert cli("verify", world.output).code == 0
    _exchange_the_weights(world.output)
    found = cli("verify", world.output, "--json")
    assert found.code == GATE_FAILED
    assert "does not hold the weights of the plan's network" in " ".join(found.json["artifacts"][0]["reasons"])


def _exchange_the_weights(run: Path) -> None:
    """Put one network's weights where another's belong, and let the manifest list them."""
    (run / "plan_1.safetensors").replace(run / "plan_0.safetensors")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    del manifest["files"]["plan_1.safetensors"]
    manifest["files"]["plan_0.safetensors"] = file_entries(run, ["plan_0.safetensors"])[
        "plan_0.safetensors"
    ].model_dump()
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_an_unknown_method_is_refused(student_file: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("export", student_file, "--methods", "rounding,prayer", "-o", tmp_path / "run")
    assert done.code == BAD_INPUT
    assert "unknown method 'prayer': choose from equalization" in done.err
