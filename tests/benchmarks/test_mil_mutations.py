"""Faults planted in Core ML packages whose hashes hold: ``verify`` has to find them by executing the files."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import lspdmobile
from benchmarks.mutations.effect import Effect
from benchmarks.mutations.kinds import KINDS
from benchmarks.mutations.package import Package
from benchmarks.mutations.table import page, summary
from benchmarks.mutations.trial import Outcome, Planted, Trial, places, plant, trial_of_everything
from benchmarks.mutations.world import CONFIGS, exported, listed, only, silent
from lspdmobile.artifact import sha256_of
from lspdmobile.choices import Verdict
from lspdmobile.plans import PLAN
from lspdmobile.run_folder import MANIFEST, read_run_report
from lspdmobile.verify import verify

ROOT = Path(lspdmobile.__file__).parent.parent
PAGE = ROOT / "docs" / "mil_mutations.md"
SAMPLE = 24
GATE_FAILED = 3


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One student's run, judged and passed; not to be changed."""
    return exported(tmp_path_factory.mktemp("sound"), "pyramid")


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "run"))


@pytest.fixture(scope="session")
def sample(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Planted]:
    """Faults of any kind in any package, drawn by a seed and judged."""
    every = places(sound)
    drawn = [every[i] for i in np.random.default_rng(1).permutation(len(every))]
    trial = Trial(sound, tmp_path_factory.mktemp("planted") / "run", seed=1)
    trial.plant(drawn, most=SAMPLE)
    return trial.judged()


def wrong(planted: Sequence[Planted]) -> list[str]:
    """List what verify got wrong."""
    return [f"{p.outcome}: {p}" for p in planted if p.outcome in (Outcome.MISSED, Outcome.FALSE_ALARM)]


def test_every_fault_of_a_sample_is_found_and_nothing_else(sample: list[Planted]) -> None:
    assert wrong(sample) == []
    count = Counter(p.outcome for p in sample)
    assert len(sample) == SAMPLE
    assert count[Outcome.CAUGHT] >= 8
    assert count[Outcome.REFUSED] >= 3
    assert count[Outcome.HARMLESS] >= 1


def test_the_page_counts_every_fault_once(sample: list[Planted]) -> None:
    rows = [line.split("|")[1:-1] for line in page(sample).splitlines() if line.startswith("| **all**")]
    assert [int(row[1]) for row in rows] == [SAMPLE, SAMPLE]
    planted, above, caught, missed, _, refused, harmless, false, limit = (int(cell) for cell in rows[0][1:])
    assert above == caught + missed
    assert planted == above + refused + harmless + false + limit
    assert f"planted {SAMPLE}" in summary(sample)


def test_the_written_page_has_every_kind() -> None:
    rows = {line.split("|")[1].strip() for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"}
    assert rows >= KINDS.keys(), "run python benchmarks/mil_mutations.py --output docs/mil_mutations.md"


@pytest.mark.parametrize(
    ("share", "passes", "outcome"),
    [
        (5.0, False, Outcome.CAUGHT),
        (5.0, True, Outcome.MISSED),
        (float("inf"), True, Outcome.MISSED),
        (0.5, True, Outcome.HARMLESS),
        (0.5, False, Outcome.FALSE_ALARM),
        (1.1, True, Outcome.AT_THE_LIMIT),
    ],
)
def test_what_verify_got_wrong_is_called_so(
    share: float, passes: bool, outcome: Outcome, sample: list[Planted]
) -> None:
    entry = next(p.entry for p in sample if p.outcome is Outcome.CAUGHT)
    judged = entry.model_copy(update={"verdict": Verdict.PASS if passes else Verdict.FAIL})
    found = Planted(package="p", kind="k", where="w", effect=Effect(share=share, margin=0.2), entry=judged)
    assert found.outcome is outcome
    assert bool(wrong([found])) == (outcome in (Outcome.MISSED, Outcome.FALSE_ALARM))


def test_a_planted_fault_is_in_the_file_and_the_original_stays(sound: Path, tmp_path: Path) -> None:
    package = sound / "pyramid_w8a8.mlpackage"
    before = sha256_of(package)
    planted = 0
    for index, kind in enumerate(KINDS):
        target = tmp_path / f"{index}.mlpackage"
        where = plant(package, kind, target, np.random.default_rng(index))
        assert (where is not None) == target.exists()
        if where is not None:
            planted += 1
            assert sha256_of(target) != before, kind
    assert planted > 25
    assert sha256_of(package) == before


def test_a_package_opened_and_saved_runs_as_before(run: Path) -> None:
    only(run, "pyramid_float32.mlpackage")
    Package(run / "pyramid_float32.mlpackage").save()
    relist(run, "pyramid_float32.mlpackage")
    assert verify(run, silent).passed


def test_the_command_exits_with_3(run: Path) -> None:
    said = {
        "float32": ("bias: dropped", "heatmaps differ by"),
        "float16": ("output renamed", "renamed"),
        "w8a8": ("scale: of an activation", "beside the plan's own arithmetic"),
    }
    for precision, (kind, _) in said.items():
        sound = run / f"pyramid_{precision}.mlpackage"
        assert plant(sound, kind, run / f"broken_{precision}.mlpackage", np.random.default_rng(3))
        listed(run, {f"broken_{precision}.mlpackage": sound.name})
    only(run, *(f"broken_{precision}.mlpackage" for precision in said))
    done = subprocess.run(
        [sys.executable, "-m", "lspdmobile", "verify", str(run), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == GATE_FAILED, done.stderr
    found = json.loads(done.stdout)
    assert (found["passed"], found["tampered"]) == (False, [])
    judged = {artifact["file"]: artifact for artifact in found["artifacts"]}
    assert judged.keys() == {f"broken_{precision}.mlpackage" for precision in said}
    for precision, (_, why) in said.items():
        artifact = judged[f"broken_{precision}.mlpackage"]
        assert artifact["verdict"] == "fail"
        assert why in " ".join(artifact["reasons"])


def test_the_plan_a_file_was_made_from_cannot_be_another(run: Path) -> None:
    only(run, "pyramid_w8a8.mlpackage")
    plan = json.loads((run / PLAN).read_text(encoding="utf-8"))
    ranges = next(each["ranges"] for each in plan["plans"] if "pyramid_w8a8.mlpackage" in each["files"])
    low, high = ranges["relu_4"]
    ranges["relu_4"] = [low, 1.5 * high]
    (run / PLAN).write_text(json.dumps(plan), encoding="utf-8")
    (entry,) = verify(run, silent).report.artifacts
    assert "is not what the manifest lists" in entry.reasons[0]
    relist(run, PLAN)
    found = verify(run, silent)
    assert (found.passed, found.tampered) == (False, ())
    (entry,) = found.report.artifacts
    assert "beside the plan's own arithmetic" in entry.reasons[0]
    assert entry.deviation is not None
    assert entry.deviation.tensor == "relu_4"
    (run / PLAN).write_text("{}", encoding="utf-8")
    relist(run, PLAN)
    (entry,) = verify(run, silent).report.artifacts
    assert "has no plan for pyramid_w8a8.mlpackage" in entry.reasons[0]


def test_what_the_manifest_tells_apps_has_to_be_in_the_file(run: Path) -> None:
    only(run, "pyramid_float32.mlpackage")
    manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    manifest["artifacts"][0]["input"]["name"] = "picture"
    (run / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    (entry,) = verify(run, silent).report.artifacts
    assert "where the manifest tells apps of picture" in entry.reasons[0]
    manifest["artifacts"] = []
    (run / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    (entry,) = verify(run, silent).report.artifacts
    assert "does not list it" in entry.reasons[0]


def relist(run: Path, name: str) -> None:
    """Put a changed file's hash into the manifest."""
    manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"][name]["sha256"] = sha256_of(run / name)
    (run / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def test_a_sound_run_says_how_near_its_quantized_files_are_to_the_plan(sound: Path) -> None:
    deviations = {a.precision: a.deviation for a in read_run_report(sound).artifacts if a.deviation is not None}
    assert set(deviations) == {"w8", "w8a8"}
    for deviation in deviations.values():
        assert deviation.faults == ()
        assert deviation.pictures == 8
        assert deviation.steps is not None
        assert deviation.steps < 0.1
        assert deviation.heatmaps is not None
        assert deviation.heatmaps < 1e-5


@pytest.mark.slow
def test_every_fault_in_every_package_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = trial_of_everything(tmp_path, list(CONFIGS), seed=2)
    with capsys.disabled():
        sys.stdout.write(f"\n{summary(planted)}\n")
    assert wrong(planted) == []
    assert len(planted) >= 200
    assert {p.kind for p in planted} == set(KINDS)
