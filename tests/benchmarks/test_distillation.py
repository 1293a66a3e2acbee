"""The comparison of trainings: arms merged and checked, runs resumed and never repeated, differences paired by seed."""

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lspdmobile
from benchmarks.trials.arms import Arm, read_arms
from benchmarks.trials.curves import draw_curves
from benchmarks.trials.runs import RESULTS, Result, read_results, run_once
from benchmarks.trials.table import Spread, rows_of
from lspdmobile.data.render import write_rendered_set
from lspdmobile.errors import BadInputError

ROOT = Path(lspdmobile.__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "distillation.py"
FILE = SCRIPT.with_suffix(".toml")
NETWORK = "{ input_size = [32, 32], pyramid_channels = [8, 8, 8, 8, 8], features = 8, detail = 8, mid_channels = 8 }"
ARMS = f"""
[base]
batch_size = 2
phases = [{{ size = 32, epochs = 2 }}]
validate_every = 1
network = {NETWORK}
[base.data]
train = "annotations/person_keypoints.json"
val = "annotations/person_keypoints.json"
[base.distill]
weight = 0.0
[families.lspd]
recipe = "lspd"
preset = "lspd-s"
[arms.alone]
family = "lspd"
fields.stages = 1
[arms.chain]
family = "lspd"
against = "alone"
core = false
fields.distill.weight = 0.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "arms.toml").write_text(ARMS, encoding="utf-8")
    return tmp_path / "arms.toml"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_rendered_set(tmp_path / "data", count=4, seed=11, size=64)
    return tmp_path / "data"


def test_the_arms_in_the_repository_are_right_and_differ_in_what_they_learn_from_alone() -> None:
    arms = read_arms(FILE)
    assert {"lspd", "okdhp", "ldcrn"} == {arm.name for arm in arms.values() if arm.core and not arm.against}
    equal = (
        "recipe",
        "preset",
        "seed",
        "batch_size",
        "learning_rate",
        "optimizer",
        "phases",
        "augment",
        "ema",
        "sigma",
    )
    training_only = {"decoders", "helpers", "later_blocks", "later_mid_channels"}
    for arm in arms.values():
        if arm.against:
            twin = arms[arm.against]
            assert not twin.against or arms[twin.against].against == ""
            for name in equal:
                assert getattr(arm.config, name) == getattr(twin.config, name), (arm.name, name)
            ours, theirs = (
                {k: v for k, v in c.network.items() if k not in training_only} for c in (arm.config, twin.config)
            )
            assert ours == theirs
            assert arm.config.data.train_pictures == twin.config.data.train_pictures


def test_tables_are_merged_and_lists_replaced(file: Path) -> None:
    arms = read_arms(file, {"data": {"train_pictures": 2}, "phases": [{"size": 64, "epochs": 1}]})
    chain = arms["chain"].config
    assert (chain.distill.weight, chain.data.train_pictures, chain.data.train[:11]) == (0.5, 2, "annotations")
    assert [(p.size, p.epochs) for p in chain.phases] == [(64, 1)]
    assert arms["alone"].config.distill.weight == 0
    assert (arms["chain"].against, arms["chain"].core, arms["alone"].core) == ("alone", False, True)


def test_a_run_is_named_after_its_whole_configuration(file: Path) -> None:
    arms = read_arms(file)
    names = {arms[name].run_name(seed) for name in arms for seed in (0, 1)}
    names.add(read_arms(file, {"batch_size": 4})["alone"].run_name(0))
    assert len(names) == 5
    assert arms["alone"].run_name(0) == read_arms(file)["alone"].run_name(0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('against = "alone"', 'against = "nobody"', "chain: no such family or arm"),
        ("fields.distill.weight = 0.5", "fields.distill.weight = -1", "distill.weight"),
        ('preset = "lspd-s"', 'preset = "okdhp-s"', "alone: preset okdhp-s: the recipe 'lspd' trains"),
        ("core = false", "cores = false", "not a file of arms"),
        ("[base]", "[base", "not a file of arms"),
    ],
)
def test_faulty_arms_are_refused(file: Path, old: str, new: str, said: str) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(BadInputError, match=said):
        read_arms(file)


def result_of(arm: Arm, seed: int, pck: float, **fields: Any) -> Result:
    curve = [{"step": 2 * e, "epoch": e, "loss": 1.0, "val pck@0.2": pck * e / 2} for e in (1, 2)]
    default: dict[str, Any] = {
        "run": arm.run_name(seed), "arm": arm.name, "seed": seed, "metrics": {"pck@0.2": pck, "pckh@0.5": 2 * pck},
        "joints": {"knee": pck, "wrist": 0.5 * pck}, "teacher": None, "branch": 0, "curve": curve, "seconds": 60.0,
        "pictures_per_second": 10.0,
    }  # fmt: skip
    return Result(**{**default, **fields})


def test_differences_are_those_of_runs_of_the_same_seed(file: Path) -> None:
    """Seeds 0.1 apart, the arm 0.01 and 0.03 above its twin: a small difference with a small spread."""
    arms = read_arms(file)
    found = [result_of(arms["alone"], s, 0.2 + 0.1 * s) for s in (0, 1, 2)]
    found += [result_of(arms["chain"], s, 0.21 + 0.12 * s, teacher=0.4) for s in (0, 1)]
    alone, chain = rows_of(list(arms.values()), {r.run: r for r in found}, range(3))
    assert alone["metrics"]["pck@0.2"] == {"mean": 0.3, "sd": pytest.approx(0.1), "seeds": 3}
    assert alone["difference"]["pck@0.2"] is None
    expected = {"mean": 0.02, "sd": pytest.approx(0.02 / 2**0.5, abs=1e-5), "seeds": 2}
    assert chain["difference"]["pck@0.2"] == expected
    assert chain["joint_difference"]["wrist"]["mean"] == pytest.approx(0.01)
    assert (chain["teacher"]["mean"], alone["teacher"], alone["minutes"]) == (0.4, None, 1.0)


def test_a_single_seed_has_no_spread() -> None:
    assert Spread.of([0.5]) == Spread(mean=0.5, deviation=None, count=1)
    assert Spread.of([]) is None


def test_a_line_that_was_cut_off_is_passed_over(file: Path, tmp_path: Path) -> None:
    arm = read_arms(file)["alone"]
    whole = json.dumps(asdict(result_of(arm, 0, 0.2)))
    (tmp_path / RESULTS).write_text(f"{whole[:50]}\n{whole}\n{whole[:70]}", encoding="utf-8")
    assert list(read_results(tmp_path)) == [arm.run_name(0)]
    assert read_results(tmp_path / "nothing") == {}


def test_a_run_is_trained_scored_and_not_repeated(file: Path, data: Path, tmp_path: Path) -> None:
    arm = read_arms(file)["chain"]
    first = run_once(arm, 3, data=data, folder=tmp_path)
    assert first is not None
    assert (first.arm, first.seed, first.branch) == ("chain", 3, 0)
    assert set(first.metrics) == {"pck@0.2", "pckh@0.5"}
    assert set(first.joints) == {"ankle", "knee", "hip", "wrist", "elbow", "shoulder", "neck", "head_top"}
    assert [entry["epoch"] for entry in first.curve] == [1, 2]
    assert first.teacher is not None
    checkpoint = tmp_path / "runs" / first.run / "checkpoint.pt"
    checkpoint.unlink()
    assert run_once(arm, 3, data=data, folder=tmp_path) == first
    assert not checkpoint.exists()
    assert read_results(tmp_path) == {first.run: first}


def test_a_run_that_another_process_has_in_hand_is_left_to_it(file: Path, data: Path, tmp_path: Path) -> None:
    arm = read_arms(file)["alone"]
    place = tmp_path / "runs" / arm.run_name(0)
    place.mkdir(parents=True)
    with (place / "lock").open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert run_once(arm, 0, data=data, folder=tmp_path) is None
    assert run_once(arm, 0, data=data, folder=tmp_path) is not None


def test_curves_are_drawn_where_there_are_results(file: Path, tmp_path: Path) -> None:
    arms = read_arms(file)
    draw_curves({"alone": []}, tmp_path / "empty.png")
    runs = [result_of(arms["alone"], 0, 0.2), result_of(arms["alone"], 1, 0.4)]
    draw_curves({"alone": runs, "chain": []}, tmp_path / "curves.png")
    with Image.open(tmp_path / "empty.png") as empty, Image.open(tmp_path / "curves.png") as full:
        blank, drawn = np.asarray(empty.convert("RGB")), np.asarray(full.convert("RGB"))
    blue = np.array((0x1B, 0x6C, 0xA8))
    assert (drawn == blue).all(axis=2).sum() > 300
    assert not (blank == blue).all(axis=2).any()


def script(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_the_script_runs_what_is_missing_and_prints_the_table(file: Path, data: Path, tmp_path: Path) -> None:
    common = ["--data", str(data), "--file", str(file), "-o", str(tmp_path / "out"), "--seeds", "2", "--json"]
    assert json.loads(script(*common, "--table", "--arms", "chain").stdout) == []
    found = script(*common, "--arms", "chain")
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout)
    assert [(row["arm"], row["metrics"]["pck@0.2"]["seeds"]) for row in rows] == [("alone", 2), ("chain", 2)]
    again = script(*common, "--arms", "chain")
    assert (again.stdout, again.stderr) == (found.stdout, "")
    refused = script(*common, "--arms", "chains")
    assert (refused.returncode, "no such arm: chains" in refused.stderr) == (2, True)
