"""Augmentation: joints go where the picture goes, drawn from one generator; targets decode back to their joints."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lspdmobile.decode import decode
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import COCO_17, LSP_14, Skeleton
from lspdmobile.train.augment import augment, gaussian_heatmaps
from lspdmobile.train.config import AugmentConfig

STORED, SIZE = 128, 160
CONTRACT = PreprocessContract(input_size=(SIZE, SIZE), heatmap_stride=8)
STILL = AugmentConfig(rotation_sd=0, scale_sd=0, shift_sd=0, flip=0, colour=0, erase=0)
LIVELY = AugmentConfig(rotation_sd=40, scale_sd=0.15, shift_sd=0.05, flip=0.5, colour=0, erase=0)
SEEDS = range(8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dot(x: float, y: float, *, sigma: float = 2.5) -> Tensor:
    """One crop ``[1, S, S, 3]`` of the mean colour with a soft white dot whose middle is at (x, y) in crop pixels."""
    axis = torch.arange(STORED) + 0.5
    spot = torch.exp(-0.5 * ((axis - y) / sigma) ** 2)[:, None] * torch.exp(-0.5 * ((axis - x) / sigma) ** 2)
    mean = torch.tensor(CONTRACT.mean)
    return (255 * (mean + (1 - mean) * spot[..., None])).round().to(torch.uint8)[None]


def augmented(
    pixels: Tensor,
    config: AugmentConfig = STILL,
    *,
    points: Tensor | None = None,
    weights: Tensor | None = None,
    skeleton: Skeleton = LSP_14,
    seed: int = 0,
    margin: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Augment crops for ``CONTRACT``; joints are in the corner, and all count, unless given."""
    if points is None:
        points = torch.zeros(len(pixels), skeleton.count, 2)
    return augment(
        pixels,
        points,
        torch.ones(points.shape[:2]) if weights is None else weights,
        size=SIZE,
        contract=CONTRACT,
        skeleton=skeleton,
        config=config,
        generator=generator(seed),
        margin=margin,
    )


def placed(places: Tensor, seed: int, config: AugmentConfig, margin: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Augment the same crop of every joint's dot: joint k is painted in picture k alone."""
    pixels = torch.cat([dot(float(x), float(y)) for x, y in places])
    points = places.expand(len(places), *places.shape).clone()
    return augmented(pixels, config, points=points, seed=seed, margin=margin)


def brightest(inputs: Tensor) -> tuple[float, float]:
    """Middle of the bright spot of one input ``[3, S, S]``, in its pixels."""
    grey = inputs.mean(dim=0)
    spot = torch.where(grey > 0.4 * grey.max(), grey, 0.0)
    axis = torch.arange(SIZE) + 0.5
    total = spot.sum()
    return float((spot * axis).sum() / total), float((spot * axis[:, None]).sum() / total)


def random_places(seed: int, count: int = LSP_14.count) -> Tensor:
    return STORED * (0.3 + 0.4 * torch.rand(count, 2, generator=generator(1000 + seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_joints_follow_the_picture(seed: int) -> None:
    """Where picture k's dot went is where joint k's label went, or its mirror image's label if it was mirrored."""
    places = random_places(seed)
    inputs, points, weights = placed(places, seed, LIVELY)
    assert (weights == 1).all()
    sides = set()
    for k in range(LSP_14.count):
        spot = torch.tensor(brightest(inputs[k]))
        straight, mirrored = points[k, k], points[k, LSP_14.flip[k]]
        distances = (float((spot - straight).norm()), float((spot - mirrored).norm()))
        assert min(distances) < 0.3
        if LSP_14.flip[k] != k:
            sides.add(distances[1] < distances[0])
    assert sides == {True, False}


@pytest.mark.parametrize(("flip", "mirrored"), [(0.0, False), (1.0, True)])
def test_left_and_right_are_exchanged_when_and_only_when_it_is_mirrored(flip: float, mirrored: bool) -> None:
    places = random_places(0)
    inputs, points, _ = placed(places, 0, STILL.model_copy(update={"flip": flip}))
    scale = SIZE / STORED
    for k, (x, y) in enumerate(places.tolist()):
        joint = LSP_14.flip[k] if mirrored else k
        expected = (SIZE - scale * x, scale * y) if mirrored else (scale * x, scale * y)
        assert points[0, joint].tolist() == pytest.approx(expected, abs=1e-3)
        assert brightest(inputs[k]) == pytest.approx(expected, abs=0.3)


def test_the_weights_of_mirrored_joints_go_with_them() -> None:
    weights = torch.linspace(0.1, 1, COCO_17.count)[None]
    _, _, moved = augmented(
        torch.zeros(1, STORED, STORED, 3, dtype=torch.uint8),
        STILL.model_copy(update={"flip": 1.0}),
        points=random_places(0, COCO_17.count)[None],
        weights=weights,
        skeleton=COCO_17,
    )
    assert torch.equal(moved[0], weights[0, list(COCO_17.flip)])


def test_without_change_the_input_is_the_normalised_crop() -> None:
    pixels = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator())
    points = SIZE * torch.rand(2, 14, 2, generator=generator())
    inputs, moved, weights = augmented(pixels, points=points)
    expected = np.stack([CONTRACT.normalise(p) for p in pixels.numpy()])
    np.testing.assert_allclose(inputs.numpy(), expected, atol=2e-4)
    torch.testing.assert_close(moved, points, rtol=0, atol=1e-4)
    assert (weights == 1).all()


def test_a_margin_is_cut_off() -> None:
    """With a margin of 1.25 the view is the middle 4/5: the mark at a tenth of the crop is at the view's edge."""
    places = torch.full((14, 2), STORED / 2)
    places[0] = torch.tensor([0.1 * STORED + 8, 0.9 * STORED - 8])
    inputs, points, weights = placed(places, 0, STILL, margin=1.25)
    scale = SIZE / (0.8 * STORED)
    assert points[0, 0].tolist() == pytest.approx([8 * scale, SIZE - 8 * scale], abs=1e-3)
    assert points[0, 1].tolist() == pytest.approx([SIZE / 2, SIZE / 2], abs=1e-3)
    assert brightest(inputs[0]) == pytest.approx(points[0, 0].tolist(), abs=0.3)
    assert (weights == 1).all()


def test_shifts_are_parts_of_the_view_not_of_the_margin_around_it() -> None:
    """The same draw moves the view by the same part of itself, whatever the margin."""
    config = STILL.model_copy(update={"shift_sd": 0.05})
    middle = torch.full((14, 2), STORED / 2)
    (_, tight, _), (_, wide, _) = (placed(middle, 3, config, margin) for margin in (1.0, 1.25))
    assert (tight - SIZE / 2).abs().max() > 4
    torch.testing.assert_close(wide, tight, rtol=0, atol=1e-3)


def test_a_joint_that_leaves_the_view_has_no_weight() -> None:
    """Zoomed in by e^0.75 at most, a joint in the corner is lost and one in the middle is not."""
    config = STILL.model_copy(update={"scale_sd": 0.3})
    places = torch.full((14, 2), STORED / 2)
    places[5] = torch.tensor([1.0, 1.0])
    lost = set()
    for seed in SEEDS:
        _, points, weights = placed(places, seed, config)
        inside = ((points >= 0) & (points < SIZE)).all(dim=2)
        assert torch.equal(weights, inside.float())
        assert (weights[:, [0, 13]] == 1).all()
        lost |= set(weights[:, 5].tolist())
    assert lost == {0.0, 1.0}


def test_outside_the_crop_is_the_mean_colour() -> None:
    config = STILL.model_copy(update={"scale_sd": 0.3})
    white = torch.full((16, STORED, STORED, 3), 255, dtype=torch.uint8)
    inputs, _, _ = augmented(white, config)
    corners, middles = inputs[:, :, 0, 0], inputs[:, :, SIZE // 2, SIZE // 2]
    assert {float(c) for c in corners.abs().amax(dim=1)} > {0.0}
    expected = (1 - torch.tensor(CONTRACT.mean)) / torch.tensor(CONTRACT.std)
    torch.testing.assert_close(middles, expected.expand(16, 3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("colour", [0.25, 1.0])
def test_changed_colours_are_still_colours(colour: float) -> None:
    pixels = torch.randint(0, 256, (8, STORED, STORED, 3), dtype=torch.uint8, generator=generator())
    inputs, _, _ = augmented(pixels, STILL.model_copy(update={"colour": colour}))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CONTRACT.mean, CONTRACT.std))
    colours = inputs * std + mean
    assert colours.min() >= -1e-6
    assert colours.max() <= 1 + 1e-6
    assert len({round(float(v), 3) for v in colours.mean(dim=(1, 2, 3))}) > 4


def test_erasing_blanks_a_rectangle_of_the_promised_size() -> None:
    white = torch.full((32, STORED, STORED, 3), 255, dtype=torch.uint8)
    inputs, _, _ = augmented(white, STILL.model_copy(update={"erase": 0.5}))
    holes = (inputs == 0).all(dim=1)
    erased = [hole for hole in holes if hole.any()]
    assert 8 <= len(erased) <= 24
    for hole in erased:
        rows, columns = hole.any(dim=1).nonzero(), hole.any(dim=0).nonzero()
        sides = [int(axis.max() - axis.min()) + 1 for axis in (rows, columns)]
        assert int(hole.sum()) == sides[0] * sides[1]
        assert all(0.1 * SIZE - 1 <= side <= 0.35 * SIZE + 1 for side in sides)


def test_every_number_comes_from_the_generator() -> None:
    config = AugmentConfig()
    places = random_places(3)
    torch.manual_seed(1)
    first = placed(places, 7, config)
    torch.manual_seed(2)
    torch.rand(5)
    again, other = placed(places, 7, config), placed(places, 8, config)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])


def test_the_samples_are_not_changed() -> None:
    pixels, points, weights = dot(40, 60), random_places(0)[None], torch.ones(1, 14)
    kept = pixels.clone(), points.clone(), weights.clone()
    config = AugmentConfig(flip=1, erase=1, colour=1)
    augmented(pixels, config, points=points, weights=weights)
    assert all(torch.equal(a, b) for a, b in zip((pixels, points, weights), kept, strict=True))


def test_target_heatmaps_decode_back_to_their_joints() -> None:
    points = 40 + 80 * torch.rand(4, 14, 2, generator=generator())
    heatmaps = gaussian_heatmaps(points, size=(20, 24), stride=8, sigma=1.25)
    assert heatmaps.shape == (4, 14, 20, 24)
    found = decode(heatmaps.numpy(), contract=CONTRACT, rule="dark")
    np.testing.assert_allclose(found[..., :2], points.numpy(), atol=0.05 * 8)


def test_a_target_peaks_at_one_in_the_middle_of_its_cell() -> None:
    """A joint at input pixel (60, 20) is the centre of column 7, row 2, at stride 8."""
    heatmap = gaussian_heatmaps(torch.tensor([[[60.0, 20.0]]]), size=(6, 12), stride=8, sigma=1.5)[0, 0]
    assert heatmap[2, 7] == 1
    assert heatmap[2, 9] == pytest.approx(float(np.exp(-0.5 * (2 / 1.5) ** 2)))
    assert heatmap[3, 8] == pytest.approx(float(np.exp(-0.5 * 2 / 1.5**2)))


def test_the_order_of_colours_does_not_move_joints() -> None:
    """The trainer's inputs are RGB whatever the picture holds; a contract with other means changes colours only."""
    places = random_places(1)
    one = placed(places, 3, LIVELY)
    contract = replace(CONTRACT, mean=(0.1, 0.2, 0.3))
    pixels = torch.cat([dot(float(x), float(y)) for x, y in places])
    other = augment(
        pixels,
        places.expand(14, 14, 2).clone(),
        torch.ones(14, 14),
        size=SIZE,
        contract=contract,
        skeleton=LSP_14,
        config=LIVELY,
        generator=generator(3),
    )
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], other[0])
