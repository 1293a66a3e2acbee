"""Faults planted into the rewrites; the certificate has to catch every one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import lspdmobile.fusion as fusion_package
from lspdmobile.errors import GateFailedError
from lspdmobile.fusion import fold_norm, fuse, merge_branches
from lspdmobile.fusion.certificate import certify
from lspdmobile.fusion.probes import INPUTS, probe_inputs, randomise_norms, relative_error
from lspdmobile.fusion.site import Site
from lspdmobile.networks.lspd import LspdConfig, LspdStudent

Plant = Callable[[pytest.MonkeyPatch], None]

honest_affine = fold_norm.affine_of
honest_sum = merge_branches._sum


def plant_affine(monkeypatch: pytest.MonkeyPatch, faulty: Callable[[nn.BatchNorm2d], tuple[Tensor, Tensor]]) -> None:
    monkeypatch.setattr(fold_norm, "affine_of", faulty)
    monkeypatch.setattr(merge_branches, "affine_of", faulty)


def mean_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_affine(monkeypatch, lambda norm: (honest_affine(norm)[0], norm.bias.detach().double()))


def eps_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        eps, norm.eps = norm.eps, 0.0
        found = honest_affine(norm)
        norm.eps = eps
        return found

    plant_affine(monkeypatch, faulty)


def beta_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        scale, shift = honest_affine(norm)
        return scale, shift - norm.bias.detach().double()

    plant_affine(monkeypatch, faulty)


def branch_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_branches, "_sum", lambda branches, *, like: honest_sum(branches[:-1], like=like))


def dilation_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(conv: nn.Conv2d) -> Tensor:
        sides = [d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        kernel = torch.zeros(conv.in_channels, *sides, dtype=torch.float64)
        top, left = ((side - k) // 2 for side, k in zip(sides, conv.kernel_size, strict=True))
        kernel[:, top : top + conv.kernel_size[0], left : left + conv.kernel_size[1]] = conv.weight.detach()[:, 0]
        return kernel

    monkeypatch.setattr(merge_branches, "_undilated", faulty)


def after_sum(change: Callable[[nn.Conv2d], nn.Module]) -> Plant:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(merge_branches, "_sum", lambda branches, *, like: change(honest_sum(branches, like=like)))

    return plant


def reach(conv: nn.Conv2d) -> int:
    return conv.kernel_size[0] // 2


def shifted_by_one(conv: nn.Conv2d) -> nn.Module:
    conv.weight.data = conv.weight.data.roll(1, dims=3)
    return conv


def padded_by_one_more(conv: nn.Conv2d) -> nn.Module:
    conv.padding = (reach(conv) + 1, reach(conv) + 1)
    return conv


def padded_one_row_late(conv: nn.Conv2d) -> nn.Module:
    """Pad one row too many above and one too few below: the right shape, the wrong rows."""
    conv.padding = (0, 0)
    side = reach(conv)
    return nn.Sequential(nn.ZeroPad2d((side, side, side + 1, side - 1)), conv).eval()


def padded_by_the_edge(conv: nn.Conv2d) -> nn.Module:
    """Continue the picture by its edge, not by zeros: the inside is right, the border is wrong."""
    conv.padding = (0, 0)
    return nn.Sequential(nn.ReplicationPad2d(reach(conv)), conv).eval()


FAULTS: dict[str, Plant] = {
    "running mean forgotten": mean_forgotten,
    "eps ignored": eps_ignored,
    "beta forgotten": beta_forgotten,
    "one branch dropped": branch_dropped,
    "dilation forgotten in the embedding": dilation_forgotten,
    "kernel shifted by one column": after_sum(shifted_by_one),
    "padding one too large": after_sum(padded_by_one_more),
    "padding off by one row": after_sum(padded_one_row_late),
    "padding repeats the edge": after_sum(padded_by_the_edge),
}


@pytest.mark.parametrize("plant", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh norms", "trained norms"])
def test_a_planted_fault_is_caught(
    plant: Plant, fresh: bool, tiny_config: LspdConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = LspdStudent(tiny_config).eval()
    if not fresh:
        randomise_norms(student, torch.Generator().manual_seed(1))
    plant(monkeypatch)
    with pytest.raises(GateFailedError, match="must not ship"):
        fuse(student, input_size=(64, 64))


def test_two_swapped_norms_are_caught_and_only_randomised_statistics_show_it_on_fresh_norms(
    tiny_config: LspdConfig,
) -> None:
    student = LspdStudent(tiny_config).eval()

    def swapping(original: nn.Module) -> tuple[nn.Module, tuple[Site, ...]]:
        first, second = (original.get_submodule(f"backbone.levels.0.1.{name}") for name in ("first", "second"))
        first.norm, second.norm = second.norm, first.norm
        fused, sites = fusion_package._rewritten(original, largest_kernel=5)
        first.norm, second.norm = second.norm, first.norm
        return fused, sites

    certificate = certify(student, *swapping(student), rewrite=swapping, input_size=(64, 64), seed=0)
    assert not certificate.passed
    assert all(check.error < 1e-5 for check in certificate.checks if check.statistics == "as trained")
    assert all(check.error > 1e-3 for check in certificate.checks if check.statistics == "randomised")


def test_a_network_in_train_mode_would_be_caught_by_the_certificate_too(
    tiny_student: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion_package, "refuse_unfusable", lambda _network: None)
    with pytest.raises(GateFailedError):
        fuse(tiny_student.train(), input_size=(64, 64))


def test_a_fault_in_the_delivered_copy_alone_is_caught(tiny_student: nn.Module) -> None:
    def rewrite(original: nn.Module) -> tuple[nn.Module, tuple[Site, ...]]:
        return fusion_package._rewritten(original, largest_kernel=5)

    fused, sites = rewrite(tiny_student)
    fused.get_parameter("stage.exit.conv.bias").data[0] += 1e-2
    certificate = certify(tiny_student, fused, sites, rewrite=rewrite, input_size=(64, 64), seed=0)
    assert any("stage.exit.conv" in fault for fault in certificate.faults)
    assert {check.precision for check in certificate.checks if check.error > 1e-5} == {"fp32"}


def test_faults_name_the_site_first(tiny_student: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    branch_dropped(monkeypatch)
    with pytest.raises(GateFailedError, match=r"stage\.blocks\.0\.multiscale \(merge branches\)"):
        fuse(tiny_student, input_size=(64, 64))


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        ([2.0, -4.0], [2.0, -3.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1e-30], float("inf")),
        ([1.0, 2.0], [1.0, float("nan")], float("inf")),
        ([float("inf"), 2.0], [float("inf"), 2.0], float("inf")),
        ([1.0, 2.0], [1.0], float("inf")),
    ],
)
def test_relative_error_is_the_largest_distance_over_the_largest_value(
    expected: list[float], found: list[float], error: float
) -> None:
    assert relative_error(torch.tensor(expected), torch.tensor(found)) == error


def test_inputs_are_of_every_kind_named() -> None:
    inputs = probe_inputs((1, 2, 6, 7), torch.Generator().manual_seed(0))
    assert tuple(inputs) == INPUTS
    assert inputs["border"][:, :, 1:-1, 1:-1].abs().max() == 0
    assert (inputs["border"][:, :, 0] != 0).all()
    assert inputs["huge"].abs().max() > 1e6
    assert 0 < inputs["tiny"].abs().max() < 1e-5


def test_randomised_norms_leave_no_tensor_where_it_was(tiny_config: LspdConfig) -> None:
    student = LspdStudent(tiny_config).eval()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    randomise_norms(student, torch.Generator().manual_seed(0))
    for name, tensor in student.state_dict().items():
        if "norm." in name and "num_batches" not in name:
            assert not torch.isclose(tensor, before[name], rtol=1e-4, atol=1e-4).all(), name
            assert torch.isfinite(tensor).all()
    assert all((v > 0).all() for name, v in student.state_dict().items() if name.endswith("running_var"))
