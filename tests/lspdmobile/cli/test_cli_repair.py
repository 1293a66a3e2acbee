"""A student whose middle is too loud for float16: found, and mended by ``--repair``."""

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, World


GATE_FAILED = 3
LOUDNESS = 1e6


def louder(tensors: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
    """Make what the stem gives louder, and what takes it quieter: the same network, in float32."""
    for name in ("weight", "bias"):
        tensors[f"backbone.stem.norm.{name}"] *= LOUDNESS
    tensors["backbone.levels.0.0.conv.weight"] /= LOUDNESS


@pytest.fixture
def loud(world: "World") -> list[object]:
    """Give the arguments of an export of the loud student to Core ML."""
    arguments = ["-f", "coreml", "-p", "fp32,fp16", "--data", world.people, "--calib", world.people]
    return ["export", world.rewrite(louder), *arguments, "-o", world.output]


def test_float16_that_overflows_fails_and_says_how_to_mend_it(loud: list[object], cli: "Cli") -> None:
    done = cli(*loud)
    assert done.code == GATE_FAILED
    assert "coreml fp16: float16 arithmetic loses in conv 'conv2d_cast_fp16': " in done.out
    assert "overflow float16" in done.out
    assert "--repair keeps what is needed in float32" in done.out
    assert done.out.count("not what the Neural Engine") == 1


def test_repair_keeps_in_float32_what_float16_would_lose(loud: list[object], cli: "Cli", world: "World") -> None:
    done = cli(*loud, "--repair")
    assert done.code == 0, done.out + done.err
    report = json.loads((world.output / "report.json").read_text(encoding="utf-8"))
    whole, half = report["artifacts"]
    assert whole["kept_fp32"] == []
    kept = half["kept_fp32"]
    assert {"conv2d", "conv2d_1", "relu"} <= set(kept)
    assert len(kept) < 10
    (note,) = half["notes"]
    assert note == f"{len(kept)} operations are kept in float32: {', '.join(kept)}"
    assert f"coreml fp16: {note}" in done.out
    assert half["bytes"] < 0.8 * whole["bytes"]
    again = cli("verify", world.output)
    assert again.code == 0
    assert "note: Core ML programs were run from their files by the MIL executor" in again.out
    page = (world.output / "report.html").read_text(encoding="utf-8")
    assert "not what the Neural Engine or a GPU makes of it" in page
    _inspect_says_what_float16_would_lose(cli, world)


def _inspect_says_what_float16_would_lose(cli: "Cli", world: "World") -> None:
    """Look into the files of the repaired run."""
    (whole,), (half,) = (list(world.output.glob(f"*_{kind}.mlpackage")) for kind in ("float32", "float16"))
    found = cli("inspect", whole, "--float16", "--data", world.people, "--json").json["float16"]
    assert found[0]["made_by"] == "conv 'conv2d'"
    assert found[0]["keep_fp32"] == ["conv2d", "relu"]
    assert "float16 conv 'conv2d': " in cli("inspect", whole, "--float16").out
    seen = cli("inspect", half, "--float16", "--data", world.people)
    assert "float16 holds every value it computes with" in seen.out
    assert "float16" not in cli("inspect", half, "--json").json


def test_repair_reaches_the_core_ml_program_inside_a_pte(cli: "Cli", world: "World") -> None:
    arguments = ["-f", "executorch", "--backend", "coreml", "-p", "fp16", "--data", world.people]
    done = cli("export", world.rewrite(louder), *arguments, "--calib", world.people, "-o", world.output, "--repair")
    assert done.code == 0, done.out + done.err
    (half,) = json.loads((world.output / "report.json").read_text(encoding="utf-8"))["artifacts"]
    assert 3 <= len(half["kept_fp32"]) < 10
    assert set(half["weight_bytes_by_dtype"]) == {"float16", "float32"}
    seen = cli("inspect", world.output / half["file"], "--float16", "--data", world.people)
    assert "float16 holds every value it computes with" in seen.out
