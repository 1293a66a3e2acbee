"""Every mistake of ``benchmarks/faults`` is called by its name, with and without the noise of int8."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.faults.kinds import FAULTS, faulty
from benchmarks.mutations.world import world
from lspdmobile.data.views import load_views
from lspdmobile.deviation import Deviation, TensorSteps
from lspdmobile.diagnosis import Cause, Evidence, diagnose
from lspdmobile.diagnosis.rounding import rounded_to_float16
from lspdmobile.parity.shift import Shift
from lspdmobile.student import Student, load_student

Maps = NDArray[np.float32]
SNR_DB = 28  # of the bundled students' int8 files
PICTURES = 12


class _Loud(nn.Module):
    """A network that has values beyond 65504 on the way, and gives the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map pictures to heatmaps."""
        heatmaps: torch.Tensor = self.network(x) * 1e6 / 1e6
        return heatmaps


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Student, Maps]:
    """A student that was trained for a moment, and pictures for it."""
    folder: Path = tmp_path_factory.mktemp("diagnosis")
    checkpoint, pictures = world(folder, "pyramid", pictures=PICTURES)
    student = load_student(str(checkpoint))
    return student, load_views(pictures, student.contract, student.skeleton).inputs()


def _heatmaps(network: nn.Module, inputs: Maps) -> Maps:
    with torch.inference_mode():
        found: Maps = network(torch.from_numpy(inputs)).numpy()
    return found


def _evidence(sound: tuple[Student, Maps], found: Maps) -> Evidence:
    student, inputs = sound
    return Evidence(
        network=student.network,
        inputs=inputs,
        expected=_heatmaps(student.network, inputs),
        found=found,
        contract=student.contract,
        skeleton=student.skeleton,
        rule=student.decode_rule,
    )


def _noisy(found: Maps, expected: Maps) -> Maps:
    """Add what int8 adds to the heatmaps of a sound file."""
    size = float(np.sqrt(np.square(expected).mean())) * 10 ** (-SNR_DB / 20)
    return found + np.random.default_rng(0).normal(0, size, found.shape).astype(np.float32)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("noisy", [False, True])
def test_a_fault_is_called_by_its_name(sound: tuple[Student, Maps], fault: str, *, noisy: bool) -> None:
    found = _heatmaps(faulty(fault, sound[0]), sound[1])
    evidence = _evidence(sound, found)
    diagnosis = diagnose(replace(evidence, found=_noisy(found, evidence.expected)) if noisy else evidence)
    assert diagnosis.cause in FAULTS[fault].causes, diagnosis
    assert diagnosis.explained is None or 0.5 <= diagnosis.explained <= 1.0 + 1e-9


def test_noise_alone_is_blamed_on_quantization_where_the_file_is_its_plan(sound: tuple[Student, Maps]) -> None:
    evidence = _evidence(sound, _heatmaps(sound[0].network, sound[1]))
    noisy = replace(evidence, found=_noisy(evidence.expected, evidence.expected))
    same = Deviation(pictures=1, tensor="relu", steps=0.0, heatmaps=0.0)
    diagnosis = diagnose(noisy, same)
    assert diagnosis.cause is Cause.QUANTIZATION
    assert diagnosis.explained is None


def test_what_float16_loses_is_told_from_another_checkpoint(sound: tuple[Student, Maps]) -> None:
    student, inputs = sound
    with torch.autocast("cpu", torch.float16), torch.inference_mode():
        found = student.network(torch.from_numpy(inputs)).float().numpy()
    evidence = _evidence(sound, found)
    assert 0.1 < evidence.beside(rounded_to_float16(evidence)) < 3
    assert diagnose(evidence, float16=True).cause is Cause.FLOAT16
    assert diagnose(evidence).cause is not Cause.FLOAT16
    stale = replace(evidence, found=_heatmaps(faulty("stale checkpoint", student), inputs))
    assert diagnose(stale, float16=True).cause is Cause.CHECKPOINT


def test_values_that_float16_cannot_hold_are_told(sound: tuple[Student, Maps]) -> None:
    student, inputs = sound
    loud = replace(student, network=_Loud(student.network))
    evidence = replace(_evidence((loud, inputs), np.zeros((1,), np.float32)))
    evidence = replace(evidence, found=_noisy(evidence.expected, evidence.expected))
    found = diagnose(evidence, float16=True)
    assert (found.cause, "overflow" in found.sentence) == (Cause.FLOAT16, True)


def test_a_shift_that_the_gate_found_is_named_where_noise_hides_it(sound: tuple[Student, Maps]) -> None:
    evidence = _evidence(sound, _heatmaps(sound[0].network, sound[1]))
    noisy = replace(evidence, found=_noisy(evidence.expected, evidence.expected))
    shift = Shift(x=0.5, y=0.0, error_x=0.01, error_y=0.01, pictures=64, joints=800)
    diagnosis = diagnose(noisy, shift=shift)
    assert (diagnosis.cause, "+0.50 px to the right" in diagnosis.sentence) == (Cause.SHIFT, True)


def test_a_layer_that_is_not_its_plans_is_named(sound: tuple[Student, Maps]) -> None:
    evidence = _evidence(sound, _heatmaps(sound[0].network, sound[1]))
    noisy = replace(evidence, found=_noisy(evidence.expected, evidence.expected))
    steps = [
        TensorSteps(name=f"relu_{i}", rms=0.0, worst_channel=3.0 * (i == 2), largest=0.0, equal=1.0) for i in range(5)
    ]
    off = Deviation(pictures=1, tensor="relu_2", steps=3.0, heatmaps=0.0, tensors=tuple(steps))
    diagnosis = diagnose(noisy, off)
    assert (diagnosis.cause, "layer relu_2 gives something else" in diagnosis.sentence) == (Cause.LAYER, True)
    told = Deviation(pictures=0, tensor="", steps=0.0, heatmaps=0.0, faults=("conv has 1 of 9 weights that differ",))
    assert diagnose(noisy, told).sentence.endswith("conv has 1 of 9 weights that differ")


def test_most_layers_with_other_numbers_are_another_checkpoint(sound: tuple[Student, Maps]) -> None:
    evidence = _evidence(sound, _heatmaps(sound[0].network, sound[1]))
    noisy = replace(evidence, found=_noisy(evidence.expected, evidence.expected))
    faults = tuple(f"conv_{i} has 9 of 9 weights that differ" for i in range(4))
    stale = Deviation(pictures=0, tensor="", steps=0.0, heatmaps=0.0, faults=faults, layers=7)
    assert diagnose(noisy, stale).cause is Cause.CHECKPOINT
    few = diagnose(noisy, replace(stale, layers=8))
    assert few.cause is Cause.LAYER
    assert few.sentence.endswith("conv_0 has 9 of 9 weights that differ; and 3 more")


def test_what_has_nothing_to_do_with_the_student_has_no_single_cause(sound: tuple[Student, Maps]) -> None:
    evidence = _evidence(sound, _heatmaps(sound[0].network, sound[1]))
    rubbish = np.random.default_rng(1).normal(0, 1, evidence.expected.shape).astype(np.float32)
    assert diagnose(replace(evidence, found=rubbish)).cause is Cause.UNKNOWN
