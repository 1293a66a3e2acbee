"""Pictures of every kind become upright RGB, or one clear error."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lspdmobile.data.pictures import PICTURE_SUFFIXES, list_pictures, read_picture
from lspdmobile.errors import BadInputError


def noise(rows: int = 20, columns: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8))


def refusal(path: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        read_picture(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message


def test_an_rgb_png_is_read_as_it_is(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png")
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(noise()))


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES))
def test_every_suffix_can_be_read(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (20, 10), (200, 100, 50)).save(tmp_path / f"a{suffix}")
    pixels = read_picture(tmp_path / f"a{suffix}")
    assert pixels.shape == (10, 20, 3)
    assert np.abs(pixels.astype(int) - [200, 100, 50]).max() <= 3  # JPEG and WebP lose a little


def test_grey_pictures_have_three_equal_channels(tmp_path: Path) -> None:
    noise().convert("L").save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png")
    assert all(np.array_equal(pixels[..., c], np.asarray(noise().convert("L"))) for c in range(3))


@pytest.mark.parametrize("top", [65535, 200])
def test_16_bit_grey_is_scaled_by_257_even_where_it_is_dark(tmp_path: Path, top: int) -> None:
    wide = np.linspace(0, top, 400).astype(np.uint16).reshape(20, 20)
    Image.fromarray(wide).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as written:
        assert written.mode == "I;16"
    pixels = read_picture(tmp_path / "a.png")
    assert np.array_equal(pixels[..., 0], np.rint(wide / 257).astype(np.uint8))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_grey_is_taken_by_what_it_spans(tmp_path: Path, top: float) -> None:
    ramp = np.linspace(0, top, 400, dtype=np.float32).reshape(20, 20)
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    expected = np.linspace(0, 255, 400).reshape(20, 20)
    assert np.abs(read_picture(tmp_path / "a.tiff")[..., 1] - expected).max() <= 0.501


def test_float_grey_with_holes_is_finite(tmp_path: Path) -> None:
    ramp = np.full((10, 10), 100, np.float32)
    ramp[0, 0] = np.nan
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = read_picture(tmp_path / "a.tiff")
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[1, 1].tolist() == [100, 100, 100]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    pixels = read_picture(tmp_path / "a.jpg").astype(int)
    assert pixels[..., 0].min() > 200
    assert pixels[..., 1:].max() < 60


def test_a_transparent_colour_of_a_palette_is_laid_on_black(tmp_path: Path) -> None:
    picture = Image.new("P", (20, 20), 1)
    picture.putpalette([255, 255, 255, 10, 200, 30])
    picture.paste(0, (0, 0, 10, 20))
    picture.save(tmp_path / "a.png", transparency=0)
    pixels = read_picture(tmp_path / "a.png")
    assert (pixels[:, :10] == 0).all()
    assert (pixels[:, 10:] == [10, 200, 30]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_half_transparent_is_half_as_bright(tmp_path: Path, mode: str) -> None:
    colour = (200, 100, 50, 128) if mode == "RGBA" else (200, 128)
    Image.new(mode, (10, 10), colour).save(tmp_path / "a.png")
    expected = np.array([200, 100, 50] if mode == "RGBA" else [200] * 3) * 128 / 255
    assert np.abs(read_picture(tmp_path / "a.png")[5, 5] - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_by_its_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """EXIF: the stored rows and columns are the upright picture's, turned or mirrored."""
    upright = np.asarray(noise(12, 20))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png"), upright)


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_a_picture_under_eight_pixels_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert f"{size[0]}x{size[1]} pixels is too small" in refusal(tmp_path / "a.png")


def test_eight_pixels_are_enough(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").shape == (8, 8, 3)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"\xff\xd8\xff\xe0"])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert "not a readable picture" in refusal(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    noise(64, 64).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "not a readable picture" in refusal(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp"])
def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise(24, 24).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
    whole = path.read_bytes()
    refused = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        damaged = bytearray(whole)
        for place in generator.integers(0, min(len(whole), 200), 8):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(bytes(damaged))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert read_picture(path).dtype == np.uint8
            except BadInputError:
                refused += 1
    assert refused > 0


def test_what_is_not_there_or_a_folder_is_one_clear_error(tmp_path: Path) -> None:
    assert "no such picture" in refusal(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    assert "not a readable picture" in refusal(tmp_path / "folder.png")


def test_pictures_are_listed_by_name_and_nothing_else_is(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "._a.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in list_pictures(tmp_path)] == ["a.png", "b.JPG"]


def test_the_images_folder_counts_where_the_folder_itself_holds_none(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    assert list_pictures(tmp_path) == [tmp_path / "images" / "a.png"]
    (tmp_path / "b.png").touch()
    assert list_pictures(tmp_path) == [tmp_path / "b.png"]


def test_an_empty_or_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no picture"):
        list_pictures(tmp_path)
    with pytest.raises(BadInputError, match="no such folder"):
        list_pictures(tmp_path / "gone")
