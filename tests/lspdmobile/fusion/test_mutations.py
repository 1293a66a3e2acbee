"""Faults planted into the rewrites; the certificate has to catch every one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lspdmobile.errors import GateFailedError
from lspdmobile.fusion import Certificate, fuse, lifting, views
from lspdmobile.fusion import graph as graph_module
from lspdmobile.fusion.linear import NO_PADDING, Linear
from lspdmobile.fusion.rewrites import branch_sum
from lspdmobile.fusion.rewrites.affine_before_conv import absorbed
from lspdmobile.fusion.rewrites.branch_concat import concatenated, side_by_side
from lspdmobile.fusion.rewrites.norm_after_conv import affine_of, folded, scaled
from lspdmobile.fusion.rewrites.pointwise import pointwise_after
from lspdmobile.fusion.rewrites.pooling import pooling_as_linear
from lspdmobile.fusion.rewrites.split import trimmed
from lspdmobile.fusion.surgery import concats, idle, kernels, sequences, sums
from lspdmobile.fusion.surgery.slices import channels_of

Plant = Callable[[pytest.MonkeyPatch], None]
Certify = Callable[..., Certificate]

honest_embed = branch_sum._embed_into


def plant_affine(monkeypatch: pytest.MonkeyPatch, faulty: Callable[[Any], tuple[Tensor, Tensor]]) -> None:
    monkeypatch.setattr(views, "affine_of", faulty)
    monkeypatch.setattr(sequences, "affine_of", faulty)


def mean_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_affine(monkeypatch, lambda norm: (affine_of(norm)[0], norm.bias.detach().double()))


def eps_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(norm: Any) -> tuple[Tensor, Tensor]:
        eps, norm.eps = norm.eps, 0.0
        found = affine_of(norm)
        norm.eps = eps
        return found

    plant_affine(monkeypatch, faulty)


def beta_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_affine(monkeypatch, lambda n: (affine_of(n)[0], affine_of(n)[1] - n.bias.detach().double()))


def gamma_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_affine(monkeypatch, lambda n: (affine_of(n)[0] / n.weight.detach().double(), affine_of(n)[1]))


def variance_for_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_affine(monkeypatch, lambda n: (affine_of(n)[0] / (n.running_var + n.eps).sqrt(), affine_of(n)[1]))


def norms_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every norm of four channels takes the statistics of the one folded before it."""
    last: list[tuple[Tensor, Tensor]] = []

    def faulty(norm: Any) -> tuple[Tensor, Tensor]:
        found = affine_of(norm)
        last.append(found)
        return last[-2] if len(last) > 1 and len(last[-2][0]) == len(found[0]) else found

    plant_affine(monkeypatch, faulty)


def branch_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "merged", lambda terms: branch_sum.merged(terms[:-1] if len(terms) > 1 else terms))


def branch_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sums, "merged", lambda terms: branch_sum.merged([*terms, terms[0]] if len(terms) > 1 else terms)
    )


def dilation_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(weight: Tensor, branch: Linear, groups: int, axes: Sequence[tuple[int, int, int, int]]) -> None:
        if (axes[0][1], axes[1][1]) != (1, 1):
            return honest_embed(weight, branch, groups, axes)
        rows, columns = branch.dilation
        top, bottom, left, right = branch.padding
        close = (top // rows, bottom // rows, left // columns, right // columns)
        shrunk = replace(branch, dilation=(1, 1), padding=close)
        return honest_embed(weight, shrunk, groups, axes)

    monkeypatch.setattr(branch_sum, "_embed_into", faulty)


def embedded_off_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 1x1 lands in the first tap instead of the centre."""

    def faulty(weight: Tensor, branch: Linear, groups: int, axes: Sequence[tuple[int, int, int, int]]) -> None:
        front = (axes[0][2], axes[0][3], axes[1][2], axes[1][3])
        honest_embed(weight, replace(branch, padding=front) if branch.is_pointwise else branch, groups, axes)

    monkeypatch.setattr(branch_sum, "_embed_into", faulty)


def after_sum(change: Callable[[Linear], Linear]) -> Plant:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            sums,
            "merged",
            lambda terms: change(branch_sum.merged(terms)) if len(terms) > 1 else branch_sum.merged(terms),
        )

    return plant


def shifted_by_one(linear: Linear) -> Linear:
    return replace(linear, weight=linear.weight.roll(1, dims=3))


def padded_by_one_more(linear: Linear) -> Linear:
    return replace(linear, padding=tuple(side + 1 for side in linear.padding))  # type: ignore[arg-type]


def transposed(linear: Linear) -> Linear:
    return replace(linear, weight=linear.weight.transpose(2, 3))


def flipped(linear: Linear) -> Linear:
    return replace(linear, weight=linear.weight.flip(2))


def channels_exchanged(linear: Linear) -> Linear:
    return replace(linear, weight=linear.weight.roll(1, dims=0))


def bias_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    after_sum(lambda linear: linear.without_bias())(monkeypatch)


def conv_bias_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "scaled", lambda linear, scale, shift: scaled(linear.without_bias(), scale, shift))


def bias_not_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(linear: Linear, scale: Tensor, shift: Tensor | None) -> Linear:
        honest = scaled(linear, scale, shift)
        return honest if linear.bias is None else replace(honest, bias=linear.bias + (0 if shift is None else shift))

    monkeypatch.setattr(views, "scaled", faulty)


def padding_counted_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over a padded window, read as the mean over the pixels of the picture in it and the other way round."""

    def faulty(channels: int, *args: Any, count_include_pad: bool = True, **kwargs: Any) -> Linear:
        linear = pooling_as_linear(channels, *args, count_include_pad=True, **kwargs)
        return replace(linear, weight=linear.weight * (9 / 6 if count_include_pad else 1.0))

    monkeypatch.setattr(views, "pooling_as_linear", faulty)


def summand_at_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm goes through padding as if the border held its summand."""

    def faulty(first: Linear, second: Linear) -> Linear:
        bare = absorbed(first, replace(second, padding=NO_PADDING))
        return replace(bare, padding=absorbed(first.without_bias(), second).padding)

    monkeypatch.setattr(views, "absorbed", faulty)


def padded_after_the_norm(self: Any, x: Tensor) -> Tensor:
    norm, conv = self.pad_norm
    return conv(torch.nn.functional.pad(norm(x), (1, 1, 1, 1)))  # type: ignore[no-any-return]


def matrices_the_wrong_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(first: Linear, second: Linear) -> Linear:
        honest = pointwise_after(first, second)
        return replace(honest, weight=honest.weight.flip(0))

    monkeypatch.setattr(views, "pointwise_after", faulty)


def inner_bias_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "pointwise_after", lambda a, b: pointwise_after(a.without_bias(), b))


def outputs_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concats, "concatenated", lambda branches: concatenated(branches[::-1]))


def blocks_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concats, "side_by_side", lambda branches: side_by_side(branches[::-1]))


def channels_of_the_other_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split's second piece is read as its first one, so that both seem to read the same channels."""

    def faulty(node: Any) -> Any:
        found = channels_of(node)
        return replace(found, start=0, stop=found.stop - found.start)

    monkeypatch.setattr(concats, "channels_of", faulty)


def transposed_scaled_on_the_wrong_axis(monkeypatch: pytest.MonkeyPatch) -> None:

    def faulty(module: nn.Module, scale: Tensor, shift: Tensor) -> nn.Module:
        result = folded(module, scale, shift)
        if isinstance(result, nn.ConvTranspose2d) and isinstance(module, nn.ConvTranspose2d):
            result.weight.data = module.weight.detach() * scale[:, None, None, None]
        return result

    monkeypatch.setattr(sequences, "folded", faulty)


def stride_forgotten_in_lifting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer is read from the program with its padding one too small."""
    honest = lifting._padding

    def faulty(*args: Any) -> tuple[int, ...] | None:
        found = honest(*args)
        return None if found is None else tuple(max(side - 1, 0) for side in found)

    monkeypatch.setattr(lifting, "_padding", faulty)


FAULTS: dict[str, Plant] = {
    "running mean forgotten": mean_forgotten,
    "eps ignored": eps_ignored,
    "beta forgotten": beta_forgotten,
    "gamma forgotten": gamma_forgotten,
    "divided by the variance": variance_for_deviation,
    "two norms swapped": norms_swapped,
    "one branch dropped": branch_dropped,
    "one branch twice": branch_twice,
    "dilation forgotten in the embedding": dilation_forgotten,
    "1x1 embedded off centre": embedded_off_centre,
    "kernel shifted by one column": after_sum(shifted_by_one),
    "kernel transposed": after_sum(transposed),
    "kernel upside down": after_sum(flipped),
    "output channels exchanged": after_sum(channels_exchanged),
    "padding one too large": after_sum(padded_by_one_more),
    "padding one too small in a layer": stride_forgotten_in_lifting,
    "merged bias dropped": bias_dropped,
    "bias of the convolution dropped": conv_bias_dropped,
    "bias not scaled": bias_not_scaled,
    "average pooling with the wrong count": padding_counted_wrongly,
    "product of matrices mixed up": matrices_the_wrong_way_round,
    "bias of the inner 1x1 dropped": inner_bias_dropped,
    "concatenated outputs exchanged": outputs_exchanged,
    "blocks of neighbouring channels exchanged": blocks_exchanged,
    "channels of a split mixed up": channels_of_the_other_half,
    "transposed convolution scaled on its inputs": transposed_scaled_on_the_wrong_axis,
}


def test_without_a_fault_all_of_it_is_rewritten_and_passes(certify: Certify) -> None:
    found = certify()
    assert {site.rewrite for site in found.sites} >= {"fold norm", "merge branches", "merge concatenated", "merge 1x1"}
    assert found.norms_left == ()
    assert found.error_fp64 < 1e-13


@pytest.mark.parametrize("plant", FAULTS.values(), ids=FAULTS.keys())
def test_a_planted_fault_is_caught(plant: Plant, certify: Certify, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(GateFailedError, match="must not ship"):
        certify()


def test_a_summand_that_would_be_missing_at_the_border_is_caught(
    certify: Certify, everything: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "forward", padded_after_the_norm)
    assert certify().passed
    summand_at_the_border(monkeypatch)
    with pytest.raises(GateFailedError):
        certify()


@pytest.mark.parametrize("plant", [mean_forgotten, beta_forgotten, norms_swapped, gamma_forgotten])
def test_faults_that_fresh_norms_hide_are_caught_by_randomised_ones(
    plant: Plant, certify: Certify, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(GateFailedError):
        certify(fresh=True)


def test_a_network_left_in_train_mode_would_be_caught_by_the_certificate_too(
    everything: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guards are switched off, and norms are read as if they were in eval mode."""
    monkeypatch.setattr(graph_module, "_changes_values", lambda _module: False)
    monkeypatch.setattr(graph_module, "refuse_unfusable", lambda _network: None)
    monkeypatch.setattr(graph_module, "refuse_unfusable_program", lambda _program: None)
    with pytest.raises(GateFailedError):
        fuse(everything().train(), inputs=(torch.randn(1, 3, 12, 11),))


def test_faults_name_the_site_first(certify: Certify, monkeypatch: pytest.MonkeyPatch) -> None:
    branch_dropped(monkeypatch)
    with pytest.raises(GateFailedError, match=r"first: wide\.0 \(merge branches\)|first: dense\.0 \(merge branches\)"):
        certify()


def test_an_idle_operator_that_is_not_idle_is_caught(certify: Certify, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_SAME", frozenset(("relu",)))
    with pytest.raises(GateFailedError):
        certify()


def test_a_split_that_loses_a_tap_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        kernels,
        "trimmed",
        lambda linear: trimmed(replace(linear, weight=linear.weight * _without_first_row(linear.weight))),
    )
    with pytest.raises(GateFailedError):
        fuse(nn.Conv2d(3, 3, 3, padding=1).eval(), inputs=(torch.randn(1, 3, 9, 9),))


def _without_first_row(weight: Tensor) -> Tensor:
    mask = torch.ones_like(weight)
    mask[:, :, 0] = mask[:, :, -1] = 0
    return mask
