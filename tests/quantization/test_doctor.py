"""Every check of the doctor finds the fault that is planted for it, and clean pictures raise no alarm."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import lspdmobile
from lspdmobile.data.bundled import bundled_calibration_pictures, bundled_pictures
from lspdmobile.data.views import load_views
from lspdmobile.errors import BadInputError
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import LSP_14
from lspdmobile.student import load_student
from quantization.calibrate import observe
from quantization.doctor import Check, Finding, Severity, diagnose, refuse_meaningless
from quantization.examination import Examination

CONTRACT = PreprocessContract(input_size=(96, 96), heatmap_stride=4)
LSPET = Path(lspdmobile.__file__).parent.parent.parent / "shared" / "data" / "lspet"
Pixels = NDArray[np.uint8]
Inputs = NDArray[np.float32]


@pytest.fixture(scope="module")
def calibration() -> Pixels:
    """The 48 bundled calibration pictures."""
    return load_views(bundled_calibration_pictures(), CONTRACT, LSP_14).pixels


@pytest.fixture(scope="module")
def evaluation() -> Pixels:
    """128 of the bundled evaluation pictures."""
    return load_views(bundled_pictures(), CONTRACT, LSP_14, limit=128).pixels


def normalised(pixels: Pixels) -> Inputs:
    return np.stack([CONTRACT.normalise(each) for each in pixels])


def examined(inputs: Inputs | list[Inputs], contract: PreprocessContract = CONTRACT) -> Examination:
    found = Examination(contract)
    for index, each in enumerate(inputs):
        found.see(each, f"{index}.png")
    return found


def found_by(findings: tuple[Finding, ...]) -> dict[Check, Finding]:
    return {finding.check: finding for finding in findings}


def test_the_bundled_pictures_raise_no_alarm(calibration: Pixels, evaluation: Pixels) -> None:
    student = load_student("lspd-s")
    views = load_views(bundled_calibration_pictures(), student.contract, student.skeleton)
    seen = observe(student.network, views.inputs())
    judged_on = examined(normalised(evaluation))
    assert diagnose(examined(normalised(calibration)), evaluation=judged_on, calibration=seen) == ()
    assert diagnose(judged_on) == ()


@pytest.mark.skipif(not LSPET.is_dir(), reason="LSPET is not beside the repository")
def test_real_pictures_raise_no_alarm() -> None:
    sets = [load_views(LSPET, CONTRACT, LSP_14, split=split, limit=128, seed=1) for split in ("train", "val")]
    ours, theirs = (examined(views.inputs()) for views in sets)
    loud = [f.sentence for f in diagnose(ours, evaluation=theirs) if f.severity is not Severity.NOTE]
    assert loud == []


def test_no_pictures_are_fatal() -> None:
    finding = found_by(diagnose(Examination(CONTRACT)))[Check.NO_PICTURES]
    assert finding.severity is Severity.FATAL
    with pytest.raises(BadInputError, match="no calibration picture; give --calib"):
        refuse_meaningless([finding])


def test_inputs_that_are_not_finite_are_fatal(calibration: Pixels) -> None:
    inputs = normalised(calibration)
    inputs[3, 0, 0, 0] = np.inf
    with pytest.raises(BadInputError, match=r"1 of 48 calibration pictures \(3\.png\) hold values that are not finite"):
        refuse_meaningless(diagnose(examined(inputs)))


def test_one_picture_over_and_over_is_fatal(calibration: Pixels) -> None:
    inputs = normalised(calibration[[5] * 20])
    with pytest.raises(BadInputError, match=r"all 20 calibration pictures are the same picture \(0\.png\)"):
        refuse_meaningless(diagnose(examined(inputs)))


def test_nothing_but_blank_pictures_is_fatal() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20, 1, 1, 3), dtype=np.uint8)
    inputs = normalised(np.broadcast_to(colours, (20, 96, 96, 3)))
    with pytest.raises(BadInputError, match="all 20 calibration pictures are blank"):
        refuse_meaningless(diagnose(examined(inputs)))


def test_what_is_not_fatal_is_let_through(calibration: Pixels) -> None:
    findings = diagnose(examined(normalised(calibration[:3])))
    assert [finding.severity for finding in findings] == [Severity.WARNING]
    refuse_meaningless(findings)


@pytest.mark.parametrize(("count", "severity"), [(1, Severity.NOTE), (8, Severity.WARNING)])
def test_blank_pictures_among_others_are_named(calibration: Pixels, count: int, severity: Severity) -> None:
    pixels = calibration.copy()
    pixels[:count] = np.arange(0, 10 * count, 10, dtype=np.uint8)[:, None, None, None]
    findings = found_by(diagnose(examined(normalised(pixels))))
    assert set(findings) == {Check.BLANK}
    assert findings[Check.BLANK].severity is severity
    assert findings[Check.BLANK].where == tuple(f"{i}.png" for i in range(count))


@pytest.mark.parametrize(("count", "severity"), [(2, Severity.NOTE), (12, Severity.WARNING)])
def test_repeated_pictures_are_named(calibration: Pixels, count: int, severity: Severity) -> None:
    brighter = np.clip(calibration[:count].astype(int) + 4, 0, 255).astype(np.uint8)
    pixels = np.concatenate([calibration, calibration[:1], brighter[1:]])
    finding = found_by(diagnose(examined(normalised(pixels))))[Check.DUPLICATES]
    assert finding.severity is severity
    assert (
        f"{count} of {48 + count} calibration pictures repeat another (1 exactly, {count - 1} nearly;" in finding.what
    )
    assert "48.png repeats 0.png" in finding.sentence
    assert finding.where == tuple(f"{48 + i}.png" for i in range(count))


@pytest.mark.parametrize(("count", "severity"), [(3, Severity.NOTE), (48, Severity.WARNING)])
def test_pictures_that_are_judged_on_too_are_named(
    calibration: Pixels, evaluation: Pixels, count: int, severity: Severity
) -> None:
    judged_on = examined(normalised(np.concatenate([evaluation, calibration[:count]])))
    findings = found_by(diagnose(examined(normalised(calibration)), evaluation=judged_on))
    assert set(findings) == {Check.OVERLAP}
    assert findings[Check.OVERLAP].severity is severity
    assert "0.png is 128.png there" in findings[Check.OVERLAP].what


WRONG: dict[str, Callable[[Pixels], Inputs]] = {
    "pixels of 0 to 255": lambda p: p.astype(np.float32).transpose(0, 3, 1, 2),
    "pixels of 0 to 1": lambda p: (p.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2),
    "pixels of -1 to 1": lambda p: (p.astype(np.float32) / np.float32(127.5) - np.float32(1)).transpose(0, 3, 1, 2),
}


@pytest.mark.parametrize("scale", WRONG)
def test_inputs_of_another_scale_are_recognised(calibration: Pixels, scale: str) -> None:
    findings = found_by(diagnose(examined(WRONG[scale](calibration))))
    assert set(findings) == {Check.NORMALISATION}
    assert scale in findings[Check.NORMALISATION].what
    assert findings[Check.NORMALISATION].severity is Severity.WARNING


@pytest.mark.parametrize("scale", WRONG)
def test_a_scale_that_the_contract_has_is_right(calibration: Pixels, scale: str) -> None:
    mean, std = {
        "pixels of 0 to 255": (0.0, 1 / 255),
        "pixels of 0 to 1": (0.0, 1.0),
        "pixels of -1 to 1": (0.5, 0.5),
    }[scale]
    contract = replace(CONTRACT, mean=(mean,) * 3, std=(std,) * 3)
    assert diagnose(examined(WRONG[scale](calibration), contract)) == ()
    standard = found_by(diagnose(examined(normalised(calibration), contract)))
    assert Check.NORMALISATION in standard


def test_standardising_twice_is_noticed(calibration: Pixels) -> None:
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (CONTRACT.mean, CONTRACT.std))
    findings = found_by(diagnose(examined((normalised(calibration) - mean) / std)))
    assert "where the preprocess contract gives -2.12 to 2.64" in findings[Check.NORMALISATION].what


def test_swapped_colours_are_noticed_beside_the_evaluation_pictures(calibration: Pixels, evaluation: Pixels) -> None:
    judged_on = examined(normalised(evaluation))
    findings = found_by(diagnose(examined(normalised(calibration[..., ::-1])), evaluation=judged_on))
    assert set(findings) == {Check.COLOUR_ORDER}
    assert "RGB" in findings[Check.COLOUR_ORDER].mend


@pytest.mark.skipif(not LSPET.is_dir(), reason="LSPET is not beside the repository")
def test_swapped_colours_of_real_pictures_are_noticed() -> None:
    sets = [load_views(LSPET, CONTRACT, LSP_14, split=split, limit=128, seed=1) for split in ("train", "val")]
    swapped, theirs = examined(normalised(sets[0].pixels[..., ::-1])), examined(sets[1].inputs())
    assert Check.COLOUR_ORDER in found_by(diagnose(swapped, evaluation=theirs))


def test_a_contract_of_the_other_order_is_no_swap(calibration: Pixels, evaluation: Pixels) -> None:
    contract = replace(CONTRACT, colour_order="bgr")
    ours, theirs = (examined([contract.normalise(p) for p in each], contract) for each in (calibration, evaluation))
    assert diagnose(ours, evaluation=theirs) == ()


@pytest.mark.parametrize(("count", "severity"), [(2, Severity.NOTE), (30, Severity.WARNING)])
def test_overexposed_pictures_are_named(calibration: Pixels, count: int, severity: Severity) -> None:
    pixels = calibration.copy()
    pixels[:count] = np.where(pixels[:count] > 100, 255, 0)
    finding = found_by(diagnose(examined(normalised(pixels))))[Check.CLIPPED]
    assert finding.severity is severity
    assert finding.where == tuple(f"{i}.png" for i in range(count))


def test_few_pictures_are_said_with_what_it_does_to_the_ranges(calibration: Pixels) -> None:
    inputs = normalised(calibration[:4])
    inputs[1] *= 0.2  # a dull picture: its half of the four reaches less far
    inputs[3] *= 0.2
    network = nn.Conv2d(3, 4, 3).eval()
    finding = found_by(diagnose(examined(inputs), calibration=observe(network, inputs)))[Check.FEW]
    assert "there are 4 calibration pictures, and two halves of them disagree on the ranges by" in finding.what
    assert "would do" in finding.mend
    assert finding.where == ("input_1", "conv2d")


def test_ranges_that_hang_on_a_single_picture_are_unstable(calibration: Pixels) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    inputs = 0.1 * normalised(calibration)
    inputs[7] *= 10
    finding = found_by(diagnose(examined(inputs), calibration=observe(network, inputs)))[Check.UNSTABLE]
    assert finding.severity is Severity.WARNING
    assert "two halves of them disagree" in finding.what
    assert "--estimator percentile" in finding.mend


def test_the_worst_comes_first(calibration: Pixels) -> None:
    pixels = calibration[:12].copy()
    pixels[0] = 7
    severities = [finding.severity for finding in diagnose(examined(normalised(pixels)))]
    assert severities == [Severity.WARNING, Severity.NOTE]
