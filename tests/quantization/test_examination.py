"""Facts of inputs, against pictures whose facts are known; and which pictures count as alike."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lspdmobile.preprocess import PreprocessContract
from quantization.examination import Examination

CONTRACT = PreprocessContract(input_size=(96, 96), heatmap_stride=4)
Pixels = NDArray[np.uint8]


def scene(seed: int) -> Pixels:
    """A picture of its own: coloured discs on a slope."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :96]
    pixels = np.repeat(generator.uniform(0, 1) * rows + generator.uniform(0, 1) * columns + 30, 3).reshape(96, 96, 3)
    for _ in range(12):
        row, column, radius = generator.uniform(0, 96, 3)
        inside = (rows - row) ** 2 + (columns - column) ** 2 < (radius / 4 + 5) ** 2
        pixels[inside] = generator.uniform(0, 255, 3)
    found: Pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return found


def examined(*pictures: Pixels, contract: PreprocessContract = CONTRACT) -> Examination:
    found = Examination(contract)
    for index, pixels in enumerate(pictures):
        found.see(contract.normalise(pixels), f"{index}.png")
    return found


def recompressed(pixels: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file))


def enlarged(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((96, 96), Image.Resampling.BILINEAR, box=(1, 1, 94, 94)))


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "recompressed": recompressed,
    "brighter": lambda p: np.clip(p.astype(int) + 15, 0, 255).astype(np.uint8),
    "more contrast": lambda p: np.clip(1.2 * (p.astype(float) - 128) + 128, 0, 255).astype(np.uint8),
    "resized": lambda p: np.asarray(Image.fromarray(p).resize((60, 60)).resize((96, 96))),
    "one pixel over": lambda p: np.roll(p, 1, axis=1),
    "noisy": lambda p: np.clip(p + np.random.default_rng(0).normal(0, 5, p.shape), 0, 255).astype(np.uint8),
    "cut closer": enlarged,
}


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_colours_are_told_back_from_inputs(order: str) -> None:
    pixels = np.zeros((96, 96, 3), np.uint8)
    pixels[...] = (200, 100, 50)
    contract = PreprocessContract.from_dict({**CONTRACT.to_dict(), "colour_order": order})
    facts = examined(pixels, contract=contract).pictures[0]
    assert facts.colour == pytest.approx([200, 100, 50], abs=1e-3)
    assert facts.spread == pytest.approx(0, abs=1e-3)


def test_the_spread_is_that_of_the_pixels() -> None:
    pixels = np.full((96, 96, 3), 100, np.uint8)
    pixels[:48] = 140
    assert examined(pixels).pictures[0].spread == pytest.approx(20, rel=1e-4)


def test_the_share_of_clipped_values_is_counted() -> None:
    pixels = np.full((96, 96, 3), 1, np.uint8)
    pixels[:24] = 255
    pixels[24:36, :, 0] = 0
    assert examined(pixels).pictures[0].clipped == pytest.approx(0.25 + 0.125 / 3)


def test_inputs_that_are_not_finite_are_set_apart() -> None:
    found = Examination(CONTRACT)
    found.see(np.full((3, 96, 96), np.nan, np.float32), "bad.png")
    found.see(CONTRACT.normalise(scene(0)), "good.png")
    assert (found.not_finite, [facts.name for facts in found.pictures], len(found)) == (["bad.png"], ["good.png"], 2)


def test_different_pictures_are_not_alike() -> None:
    found = examined(*map(scene, range(80)))
    assert found.repeated() == []
    assert found.shared_with(examined(*map(scene, range(100, 150)))) == []


def test_the_same_picture_is_found_with_its_first_copy() -> None:
    found = examined(scene(0), scene(1), scene(0), scene(2), scene(0))
    assert found.repeated() == [(2, 0, True), (4, 0, True)]
    assert found.shared_with(examined(scene(7), scene(2))) == [(3, 1, True)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change: str) -> None:
    copies = [CHANGES[change](scene(seed)) for seed in range(10)]
    found = examined(*map(scene, range(10)), *copies)
    assert found.repeated() == [(10 + i, i, False) for i in range(10)]
    assert found.shared_with(examined(*copies))[:10] == [(i, i, False) for i in range(10)]


def test_blank_pictures_are_alike_only_where_they_are_equal() -> None:
    grey, white = np.full((96, 96, 3), 90, np.uint8), np.full((96, 96, 3), 255, np.uint8)
    assert examined(grey, white, grey).repeated() == [(2, 0, True)]


def test_inputs_smaller_than_the_grid_are_examined() -> None:
    contract = replace(CONTRACT, input_size=(8, 6))
    small = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    found = examined(small[0], small[1], small[0], contract=contract)
    assert found.repeated() == [(2, 0, True)]
