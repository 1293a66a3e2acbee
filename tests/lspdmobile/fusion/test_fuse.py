import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from lspdmobile.fusion import Fused, fuse, randomise_norms
from lspdmobile.fusion.certificate import TOLERANCE_FP32, TOLERANCE_FP64
from lspdmobile.fusion.probes import INPUTS
from lspdmobile.fusion.targets import target_named
from lspdmobile.networks.blocks import LinearBranches
from lspdmobile.networks.lspd import LspdChain, LspdConfig, LspdStudent
from lspdmobile.student import load_student


@pytest.fixture(scope="module")
def fused_student(tiny_config: LspdConfig) -> Fused:
    """The tiny student, fused once; not to be changed."""
    student = LspdStudent(tiny_config).eval()
    randomise_norms(student, torch.Generator().manual_seed(1))
    return fuse(student, input_size=(64, 64))


def test_the_fused_student_has_no_norm_and_no_branches_left(fused_student: Fused) -> None:
    fused = fused_student.network
    assert not any(isinstance(m, nn.BatchNorm2d | LinearBranches) for m in fused.modules())
    assert all(m.bias is not None for m in fused.modules() if isinstance(m, nn.Conv2d))
    assert not any(m.training for m in fused.modules())


def test_the_fused_student_gives_the_same_heatmaps(tiny_student: nn.Module) -> None:
    fused = fuse(tiny_student, input_size=(64, 64)).network
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = tiny_student(pictures), fused(pictures)
    assert (expected - found).abs().max() <= TOLERANCE_FP32 * expected.abs().max()


def test_the_certificate_says_what_was_done_and_how_exactly(tiny_student: nn.Module, fused_student: Fused) -> None:
    certificate = fused_student.certificate
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in tiny_student.modules())
    in_branches = sum(len(m.branches) for m in tiny_student.modules() if isinstance(m, LinearBranches))
    rewrites = [site.rewrite for site in certificate.sites]
    assert rewrites.count("merge branches") == 1
    assert rewrites.count("fold norm") == norms - in_branches
    assert certificate.passed
    assert 0 < certificate.error_fp64 <= TOLERANCE_FP64
    assert 0 < certificate.error_fp32 <= TOLERANCE_FP32
    assert certificate.inputs == (*INPUTS, "example")
    whole = [check for check in certificate.checks if check.precision != "export"]
    assert len(whole) == 2 * 2 * len(certificate.inputs)
    exports = [check for check in certificate.checks if check.precision == "export"]
    assert [check.error for check in exports] == [0.0] * len(certificate.inputs)
    assert certificate.after.params < certificate.before.params
    assert certificate.norms_left == ()


def test_the_certificate_goes_into_json(fused_student: Fused) -> None:
    certificate = fused_student.certificate
    said = json.loads(json.dumps(certificate.to_dict(), allow_nan=False))
    assert said["passed"] is True
    assert said["relative_error"]["fp64"] == certificate.error_fp64
    assert said["macs"] == {"before": certificate.before.macs, "after": certificate.after.macs}
    assert said["sites"][0].keys() >= {"name", "rewrite", "error_fp64", "error_fp32", "rounding_fp32", "ulps_fp32"}
    assert said["ulps"]["fp32"] == certificate.ulps_fp32 > 0
    assert said["operators"]["after"] < said["operators"]["before"]
    assert {"name", "rewrite", "reason"} == said["refused"][0].keys()


def test_nothing_fused_is_said_and_not_passed_off(fused_student: Fused) -> None:
    again = fuse(fused_student.network, input_size=(64, 64)).certificate
    assert again.sites == ()
    assert "nothing was fused" in again.to_dict()["summary"]
    assert again.error_fp64 == 0.0


def test_norms_that_are_left_are_named() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)).eval()
    certificate = fuse(network, input_size=(8, 8), target=target_named("coreml-ane")).certificate
    assert certificate.norms_left == ("0",)
    assert "1 norms left" in certificate.summary


def test_the_same_seed_gives_the_same_certificate(tiny_student: nn.Module) -> None:
    first, again = (fuse(tiny_student, input_size=(64, 64), seed=3).certificate for _ in range(2))
    assert first == again


def test_a_network_with_several_outputs_is_certified_on_each(tiny_config: LspdConfig) -> None:
    certificate = fuse(LspdChain(tiny_config).eval(), input_size=(64, 64)).certificate
    assert sum(site.rewrite == "merge branches" for site in certificate.sites) == 2


def test_the_mobilenet_student_fuses_too() -> None:
    config = LspdConfig(
        keypoints=4, input_size=(64, 64), trunk="mobilenet", width=0.125, features=16, mid_channels=8, blocks=1
    )
    assert fuse(LspdStudent(config).eval(), input_size=(64, 64)).certificate.norms_left == ()


def test_a_branch_set_with_a_seven_by_seven_keeps_it_apart_by_default() -> None:
    config = LspdConfig(
        keypoints=4,
        input_size=(64, 64),
        trunk="mobilenet",
        width=0.125,
        features=16,
        mid_channels=8,
        blocks=1,
        branches=("3x3d1", "3x3d2", "3x3d3", "identity"),
    )
    student = LspdStudent(config).eval()
    apart = fuse(student, input_size=(64, 64))
    whole = fuse(student, input_size=(64, 64), largest_kernel=7)
    assert _kernels(apart.network) == {1, 3, 5}
    assert _kernels(whole.network) == {1, 3, 7}


def _kernels(network: nn.Module) -> set[int]:
    return {m.kernel_size[0] for m in network.modules() if isinstance(m, nn.Conv2d)}


def test_the_bundled_student_is_certified() -> None:
    student = load_student("lspd-s")
    certificate = fuse(student.network, input_size=student.contract.input_size).certificate
    assert certificate.passed
    assert {site.rewrite for site in certificate.sites} == {"merge branches", "fold norm"}


def test_an_error_beyond_the_originals_own_rounding_is_a_fault(fused_student: Fused) -> None:
    sound = fused_student.certificate
    rounding = max(check.rounding for check in sound.checks if check.precision == "fp32")
    worse = replace(sound.checks[0], precision="fp32", error=max(2.1 * rounding, 1.1e-5), rounding=rounding)
    assert not replace(sound, checks=(*sound.checks, worse)).passed
    as_good = replace(worse, error=1.9e-4, rounding=1e-4)
    assert replace(sound, checks=(*sound.checks, as_good)).passed
