"""Losses against their formulas, and who is pulled to whom."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lspdmobile.networks.feature_aggregation import BranchOutputs
from lspdmobile.train import ldcrn, lspd, okdhp
from lspdmobile.train.config import DistillConfig
from lspdmobile.train.losses import Target, Targets, masked_mse, pixelwise_kl, ramp_up, spatial_kl, taught

SHAPE = (3, 14, 6, 5)
SCALE = 100.0
EVERYWHERE = torch.ones(SHAPE[:2])
ONE = torch.ones(1, 1)


def maps(seed: int, *, grad: bool = True) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


def weights(seed: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(SHAPE[:2], generator=generator) * (torch.rand(SHAPE[:2], generator=generator) < 0.8)


def targets(joints: Tensor | None = None) -> Targets:
    return Targets(labels=Target(heatmaps=maps(8, grad=False), joints=weights() if joints is None else joints))


def total_of(stages: list[Tensor], config: DistillConfig, *, ramp: float = 1.0) -> Tensor:
    return lspd.loss(stages, targets(), config, ramp=ramp)


def test_offline_teachers_add_to_the_labels() -> None:
    """Each by its weight, over the joints it knows."""
    other = Target(heatmaps=maps(6, grad=False), joints=weights(5), weight=0.3)
    heatmaps = maps(0, grad=False)
    total = Targets(labels=targets().labels, offline=(other, other)).loss(heatmaps)
    expected = float(masked_mse(heatmaps, maps(8, grad=False), weights()))
    expected += 2 * 0.3 * float(masked_mse(heatmaps, maps(6, grad=False), weights(5)))
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_masked_mse_is_the_weighted_mean_over_joints() -> None:
    a, b, w = maps(0, grad=False), maps(1, grad=False), weights()
    expected = sum(
        float(w[n, k]) * float(((a[n, k] - b[n, k]) ** 2).mean()) for n in range(SHAPE[0]) for k in range(SHAPE[1])
    ) / float(w.sum())
    assert float(masked_mse(a, b, w)) == pytest.approx(SCALE * expected, rel=1e-5)


def test_a_masked_joint_has_no_gradient_and_the_others_have() -> None:
    heatmaps, w = maps(0), weights()
    masked_mse(heatmaps, maps(1, grad=False), w).backward()
    assert heatmaps.grad is not None
    moved = heatmaps.grad.abs().amax(dim=(2, 3)) > 0
    assert torch.equal(moved, w > 0)
    assert 0 < int((w == 0).sum()) < w.numel()


def test_a_batch_without_labels_costs_nothing() -> None:
    heatmaps = maps(0)
    loss = masked_mse(heatmaps, maps(1, grad=False), torch.zeros(SHAPE[:2]))
    loss.backward()
    assert heatmaps.grad is not None
    assert float(loss.detach()) == 0
    assert not heatmaps.grad.any()


def test_kl_is_zero_for_equal_maps_and_positive_for_others() -> None:
    assert float(spatial_kl(maps(0, grad=False), maps(0, grad=False), EVERYWHERE)) == pytest.approx(0, abs=1e-6)
    assert float(spatial_kl(maps(0, grad=False), maps(0, grad=False) + 3, EVERYWHERE)) == pytest.approx(0, abs=1e-6)
    assert float(spatial_kl(maps(0, grad=False), maps(1, grad=False), EVERYWHERE)) > 0.1


def test_kl_is_that_of_the_teachers_distribution_to_the_students() -> None:
    """Two cells: softmaxes (1/2, 1/2) of the student and (3/4, 1/4) of the teacher."""
    student = torch.zeros(1, 1, 1, 2)
    teacher = torch.tensor([[[[math.log(3.0), 0.0]]]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(spatial_kl(student, teacher, ONE)) == pytest.approx(expected, rel=1e-5)


def test_a_temperature_divides_the_heatmaps() -> None:
    sharp, ensemble = maps(0, grad=False) / 0.25, maps(1, grad=False) / 0.25
    for divergence in (spatial_kl, pixelwise_kl):
        found = divergence(maps(0, grad=False), maps(1, grad=False), weights(), temperature=0.25)
        assert float(found) == pytest.approx(float(divergence(sharp, ensemble, weights())), rel=1e-5)


def test_kl_is_the_mean_over_weighted_joints() -> None:
    student, teacher, w = maps(0, grad=False), maps(1, grad=False), weights()
    alone = [
        float(spatial_kl(student[n : n + 1, k : k + 1], teacher[n : n + 1, k : k + 1], ONE))
        for n in range(SHAPE[0])
        for k in range(SHAPE[1])
    ]
    expected = sum(float(a) * b for a, b in zip(w.flatten(), alone, strict=True)) / float(w.sum())
    assert float(spatial_kl(student, teacher, w)) == pytest.approx(expected, rel=1e-5)


def test_flat_heatmaps_diverge_by_half_their_centred_squared_distance() -> None:
    """Why a temperature of 1 pulls little: to second order the divergence is a variance over the pixels, halved."""
    student, teacher = 0.01 * maps(0, grad=False), 0.01 * maps(1, grad=False)
    variance = (student - teacher).flatten(2).var(dim=2, correction=0).mean()
    assert float(spatial_kl(student, teacher, EVERYWHERE)) == pytest.approx(0.5 * float(variance), rel=0.02)


def test_kl_never_moves_the_teacher() -> None:
    student, teacher = maps(0), maps(1)
    spatial_kl(student, teacher, EVERYWHERE).backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize("kind", ["mse", "kl"])
@pytest.mark.parametrize(("weight", "ramp"), [(0.0, 1.0), (0.7, 0.0)])
def test_without_distillation_the_loss_is_the_plain_sum(kind: str, weight: float, ramp: float) -> None:
    stages = [maps(i, grad=False) for i in range(3)]
    config = DistillConfig.model_validate({"loss": kind, "weight": weight})
    plain = sum(float(masked_mse(s, maps(8, grad=False), weights())) for s in stages)
    assert float(total_of(stages, config, ramp=ramp)) == pytest.approx(plain, rel=1e-6)


def test_mse_distillation_shares_the_weight_between_labels_and_teacher() -> None:
    stages = [maps(i, grad=False) for i in range(3)]
    expected = float(masked_mse(stages[2], maps(8, grad=False), weights()))
    for stage in stages[:2]:
        expected += 0.75 * float(masked_mse(stage, maps(8, grad=False), weights()))
        expected += 0.25 * float(masked_mse(stage, stages[2], EVERYWHERE))
    config = DistillConfig(loss="mse", weight=0.5)
    assert float(total_of(stages, config, ramp=0.5)) == pytest.approx(expected, rel=1e-5)


def test_labels_can_keep_their_whole_weight() -> None:
    stages = [maps(i, grad=False) for i in range(2)]
    expected = sum(float(masked_mse(s, maps(8, grad=False), weights())) for s in stages)
    expected += 1.5 * float(masked_mse(stages[0], stages[1], EVERYWHERE))
    assert float(total_of(stages, DistillConfig(weight=1.5, keep_labels=True))) == pytest.approx(expected, rel=1e-5)


def test_the_averaged_chain_can_teach_every_stage() -> None:
    stages, averaged = [maps(0), maps(1)], [maps(2), maps(3)]
    config = DistillConfig(weight=0.5, keep_labels=True, teacher="average")
    total = lspd.loss(stages, targets(), config, ramp=1.0, averaged=averaged)
    expected = sum(
        float(masked_mse(s, maps(8, grad=False), weights()) + 0.5 * masked_mse(s, maps(3, grad=False), EVERYWHERE))
        for s in (maps(0, grad=False), maps(1, grad=False))
    )
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    total.backward()
    assert averaged[1].grad is None


def test_kl_distillation_adds_to_the_labels() -> None:
    stages = [maps(i, grad=False) for i in range(2)]
    expected = sum(float(masked_mse(s, maps(8, grad=False), weights())) for s in stages)
    expected += 0.3 * float(spatial_kl(stages[0], stages[1], EVERYWHERE))
    assert float(total_of(stages, DistillConfig(loss="kl", weight=0.3))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_the_last_stage_learns_from_the_labels_alone(kind: str) -> None:
    """Its gradient is that of its own label term: distillation sends none to it."""
    config = DistillConfig.model_validate({"loss": kind, "weight": 0.9})
    stages = [maps(i) for i in range(3)]
    total_of(stages, config).backward()
    alone = maps(2)
    masked_mse(alone, maps(8, grad=False), weights()).backward()
    assert stages[2].grad is not None
    assert alone.grad is not None
    assert torch.equal(stages[2].grad, alone.grad)


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_the_other_stages_are_pulled_also_where_no_label_is(kind: str) -> None:
    config = DistillConfig.model_validate({"loss": kind, "weight": 0.9})
    stages = [maps(i) for i in range(3)]
    lspd.loss(stages, targets(torch.zeros(SHAPE[:2])), config, ramp=1.0).backward()
    for stage in stages[:2]:
        assert stage.grad is not None
        assert (stage.grad.abs().amax(dim=(2, 3)) > 0).all()
    assert stages[2].grad is not None
    assert not stages[2].grad.any()


@pytest.mark.parametrize("kind", ["mse", "kl", "okdhp-kl"])
def test_the_pull_can_leave_out_joints_without_label(kind: str) -> None:
    config = DistillConfig.model_validate({"loss": kind, "weight": 0.9, "joints": "labelled"})
    stages = [maps(0), maps(1, grad=False)]
    total_of(stages, config).backward()
    assert stages[0].grad is not None
    assert torch.equal(stages[0].grad.abs().amax(dim=(2, 3)) > 0, weights() > 0)


def test_one_stage_alone_has_nobody_to_learn_from() -> None:
    config = DistillConfig(loss="mse", weight=0.9)
    alone = float(total_of([maps(0, grad=False)], config))
    assert alone == pytest.approx(float(masked_mse(maps(0, grad=False), maps(8, grad=False), weights())))


def test_half_precision_maps_are_summed_in_full() -> None:
    stages = [maps(i, grad=False).bfloat16() for i in range(2)]
    exact = total_of([s.float() for s in stages], DistillConfig())
    assert torch.equal(total_of(stages, DistillConfig()), exact)


def test_a_stronger_pull_brings_the_stages_nearer() -> None:
    """A gradient step of the first stage toward the last grows with the weight."""
    pulls = []
    for weight in (0.1, 0.4, 0.8):
        stages = [maps(0), maps(1, grad=False)]
        loss = lspd.loss(stages, targets(torch.zeros(SHAPE[:2])), DistillConfig(weight=weight), ramp=1.0)
        loss.backward()
        assert stages[0].grad is not None
        pulls.append(float((stages[0].grad * (stages[0] - stages[1])).sum().detach()))
    assert all(a < b for a, b in pairwise(pulls))


def branches(*, grad: bool = True) -> BranchOutputs:
    """Give a shared output, two branches of two stacks and an ensemble that hangs on both."""
    shared, *private = (maps(i, grad=grad) for i in range(5))
    pairs = ((private[0], private[1]), (private[2], private[3]))
    return BranchOutputs(shared=(shared,), branches=pairs, ensemble=0.3 * pairs[0][1] + 0.7 * pairs[1][1])


def test_pixelwise_kl_sums_over_labelled_joints_and_divides_by_persons_and_pixels() -> None:
    student, ensemble, w = maps(0, grad=False), maps(1, grad=False), weights()
    expected = sum(
        float(w[n, k]) * float(spatial_kl(student[n : n + 1, k : k + 1], ensemble[n : n + 1, k : k + 1], ONE))
        for n in range(SHAPE[0])
        for k in range(SHAPE[1])
    )
    expected /= SHAPE[0] * SHAPE[2] * SHAPE[3]
    assert float(pixelwise_kl(student, ensemble, w)) == pytest.approx(expected, rel=1e-5)


def okdhp_config(**fields: object) -> DistillConfig:
    return DistillConfig.model_validate({"loss": "okdhp-kl", "weight": 2.0, "joints": "labelled", **fields})


def test_okdhps_loss_is_the_sum_of_its_three_terms() -> None:
    found, target, w = branches(grad=False), maps(8, grad=False), weights()
    expected = 0.5 * float(masked_mse(found.ensemble, target, w))
    for heatmaps in (*found.shared, *found.branches[0], *found.branches[1]):
        expected += float(masked_mse(heatmaps, target, w))
        # The released code halves the squared error, masked_mse multiplies it by SCALE.
        expected += 3.0 * 0.25 * 2 * SCALE * float(pixelwise_kl(heatmaps, found.ensemble, w))
    total = okdhp.loss(found, targets(), okdhp_config(weight=3.0, ensemble_weight=0.5), ramp=0.25)
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_distillation_never_moves_the_ensemble() -> None:
    """All that reaches the ensemble is its own label term, and no label leaves nothing."""
    ensemble = maps(7)
    found = BranchOutputs(shared=(), branches=((maps(0),), (maps(1),)), ensemble=ensemble)
    okdhp.loss(found, targets(), okdhp_config(), ramp=1.0).backward()
    alone = maps(7)
    masked_mse(alone, maps(8, grad=False), weights()).backward()
    assert ensemble.grad is not None
    assert alone.grad is not None
    assert torch.equal(ensemble.grad, alone.grad)


def test_a_joint_without_label_pulls_no_branch() -> None:
    found, w = branches(), weights()
    total = sum((pixelwise_kl(heatmaps, found.ensemble, w) for heatmaps in found.distilled), torch.zeros(()))
    total.backward()
    for heatmaps in found.distilled:
        assert heatmaps.grad is not None
        assert torch.equal(heatmaps.grad.abs().amax(dim=(2, 3)) > 0, w > 0)


def test_before_the_ramp_the_branches_learn_from_labels_alone() -> None:
    found, target, w = branches(grad=False), maps(8, grad=False), weights()
    plain = sum(float(masked_mse(heatmaps, target, w)) for heatmaps in (*found.distilled, found.ensemble))
    assert float(okdhp.loss(found, targets(), okdhp_config(), ramp=0.0)) == pytest.approx(plain, rel=1e-6)


def test_the_branches_can_be_pulled_in_every_way() -> None:
    found = branches(grad=False)
    for config in (okdhp_config(loss="mse", weight=0.5), okdhp_config(loss="kl", temperature=0.1)):
        expected = float(targets().loss(found.ensemble))
        expected += sum(float(taught(m, found.ensemble, targets(), config, ramp=1.0)) for m in found.distilled)
        assert float(okdhp.loss(found, targets(), config, ramp=1.0)) == pytest.approx(expected, rel=1e-5)
        averaged = BranchOutputs(shared=(), branches=((maps(6, grad=False),),) * 2, ensemble=maps(7, grad=False))
        expected = float(targets().loss(found.ensemble))
        expected += sum(float(taught(m, averaged.ensemble, targets(), config, ramp=1.0)) for m in found.distilled)
        total = okdhp.loss(found, targets(), config, ramp=1.0, averaged=averaged)
        assert float(total) == pytest.approx(expected, rel=1e-5)


def test_a_single_branch_learns_from_the_labels_alone() -> None:
    heatmaps = maps(0, grad=False)
    alone = BranchOutputs(shared=(), branches=((heatmaps,),), ensemble=2 * heatmaps)
    expected = float(masked_mse(heatmaps, maps(8, grad=False), weights()))
    assert float(okdhp.loss(alone, targets(), okdhp_config(), ramp=1.0)) == pytest.approx(expected, rel=1e-6)
    assert okdhp.teacher(alone) is None


def test_any_branch_ships_where_all_are_alike_and_the_target_where_helpers_are_longer() -> None:
    found = branches(grad=False)
    assert [id(m) for m in okdhp.candidates(found)] == [id(b[-1]) for b in found.branches]
    longer = BranchOutputs(shared=(), branches=((maps(0),), (maps(1), maps(2))), ensemble=maps(3))
    assert [id(m) for m in okdhp.candidates(longer)] == [id(longer.branches[0][0])]


def test_a_network_without_a_teacher_learns_from_its_targets() -> None:
    config = DistillConfig(weight=0.5, keep_labels=True)
    known = float(targets().loss(maps(0, grad=False)))
    assert float(ldcrn.loss(maps(0, grad=False), targets(), config, ramp=1.0)) == pytest.approx(known)
    pulled = ldcrn.loss(maps(0, grad=False), targets(), config, ramp=1.0, averaged=maps(1))
    expected = known + 0.5 * float(masked_mse(maps(0, grad=False), maps(1, grad=False), EVERYWHERE).detach())
    assert float(pulled.detach()) == pytest.approx(expected, rel=1e-5)


def test_the_ramp_is_that_of_okdhp() -> None:
    assert ramp_up(0, steps=90) == pytest.approx(math.exp(-5))
    assert ramp_up(45, steps=90) == pytest.approx(math.exp(-5 / 4))
    assert ramp_up(90, steps=90) == ramp_up(1000, steps=90) == ramp_up(0, steps=0) == 1.0
