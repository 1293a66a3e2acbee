"""The renderer: same seed, same bytes; labels that fit the body drawn; folders that other tools read."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lspdmobile.data import bundled
from lspdmobile.data.render import RenderedPicture, render_picture, write_rendered_set
from lspdmobile.data.render.body import pose_body, sample_build
from lspdmobile.data.render.geometry import rotate_y, wave
from lspdmobile.data.render.poses import Limb, Pose, sample_pose
from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import LSP_14

RIGHT_HIP, LEFT_HIP, RIGHT_SHOULDER, LEFT_SHOULDER = 2, 3, 8, 9
SEEDS = range(40)
LIMBS = [(0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11), (12, 13)]


@cache
def picture(seed: int) -> RenderedPicture:
    return render_picture(seed)


def standing(arm: Limb, leg: Limb, spine: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Pose:
    return Pose(arms=(arm, arm), legs=(leg, leg), spine=spine)


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = render_picture(11), render_picture(11)
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.keypoints.tobytes() == second.keypoints.tobytes()


def test_different_seeds_give_different_pictures() -> None:
    assert len({picture(seed).pixels.tobytes() for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("size", [96, 208])
def test_pixels_and_keypoints_have_the_promised_shape_and_type(size: int) -> None:
    result = render_picture(1, size=size)
    assert result.pixels.shape == (size, size, 3)
    assert result.pixels.dtype == np.uint8
    assert result.keypoints.shape == (LSP_14.count, 3)
    assert result.keypoints.dtype == np.float32


@pytest.mark.parametrize(("seed", "size"), [(0, 207), (0, 16), (-1, 208)])
def test_an_impossible_size_or_seed_is_refused(seed: int, size: int) -> None:
    with pytest.raises(ValueError, match="even size"):
        render_picture(seed, size=size)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_joints_box_lies_inside_the_picture_and_takes_about_two_thirds_of_it(seed: int) -> None:
    points = picture(seed).keypoints[:, :2]
    assert points.min() >= 0
    assert points.max() <= 207
    # Box factor 1.5, scale jitter 12 %; figures seen end-on are not blown up to fill the picture.
    assert np.ptp(points, axis=0).max() <= 208 / 1.5 * 1.125
    assert np.ptp(points, axis=0).max() >= 208 / 1.5 * 0.5


def test_no_limb_is_longer_than_the_figure_allows() -> None:
    for seed in SEEDS:
        points = picture(seed).keypoints[:, :2].astype(np.float64)
        lengths = [float(np.hypot(*(points[a] - points[b]))) for a, b in LIMBS]
        assert max(lengths) <= 0.8 * float(np.hypot(*np.ptp(points, axis=0)))


@pytest.mark.parametrize("seed", range(20))
def test_bones_keep_their_length_in_every_pose(seed: int) -> None:
    rng = np.random.default_rng(seed)
    build = sample_build(rng)
    joints = pose_body(build, sample_pose(rng), rotate_y(float(rng.uniform(-180, 180)))).joints
    leg, arm = [build.shin, build.thigh], [build.forearm, build.upper_arm]
    expected = leg + leg[::-1] + arm + arm[::-1]
    lengths = [float(np.linalg.norm(joints[a] - joints[b])) for a, b in LIMBS[:-1]]
    np.testing.assert_allclose(lengths, expected, rtol=1e-9)


def test_the_right_side_is_at_the_pictures_left_when_the_figure_faces_the_viewer() -> None:
    seen = {"front": 0, "back": 0}
    for seed in range(60):
        result = picture(seed)
        x, y = result.keypoints[:, 0], result.keypoints[:, 1]
        trunk = 0.5 * (y[RIGHT_HIP] + y[LEFT_HIP]) - y[12]
        if abs(result.facing) < 0.6 or trunk < 0.2 * float(np.ptp(y)):
            continue
        right_is_left = x[RIGHT_SHOULDER] < x[LEFT_SHOULDER]
        assert right_is_left == (result.facing > 0)
        seen["front" if result.facing > 0 else "back"] += 1
    assert min(seen.values()) >= 3


def test_a_lifted_arm_points_forward_and_a_bent_knee_goes_back() -> None:
    build = sample_build(np.random.default_rng(0))
    pose = standing(Limb(lift=90, spread=0), Limb(lift=0, bend=90))
    joints = pose_body(build, pose, np.eye(3)).joints
    np.testing.assert_allclose(joints[7] - joints[8], [0, 0, build.upper_arm], atol=1e-9)
    np.testing.assert_allclose(joints[0] - joints[1], [0, 0, -build.shin], atol=1e-9)


def test_a_limb_spread_outward_goes_to_its_own_side() -> None:
    build = sample_build(np.random.default_rng(0))
    joints = pose_body(build, standing(Limb(lift=90, spread=90), Limb(lift=0)), np.eye(3)).joints
    assert joints[7, 0] < joints[8, 0] < 0 < joints[9, 0] < joints[10, 0]


def test_some_joints_are_marked_hidden_and_most_are_seen() -> None:
    flags = np.concatenate([picture(seed).keypoints[:, 2] for seed in SEEDS])
    assert set(flags.tolist()) == {1.0, 2.0}
    assert 0.5 < float(np.mean(flags == 2)) < 0.97


def test_the_figure_is_drawn_where_its_labels_are() -> None:
    """Two sizes of one seed agree once scaled: labels follow the pixels, not the other way round."""
    small, large = render_picture(5, size=104), render_picture(5, size=208)
    np.testing.assert_allclose(2 * small.keypoints[:, :2], large.keypoints[:, :2], atol=1e-3)


def test_wave_has_period_one_and_stays_within_one() -> None:
    phase = np.linspace(-3, 3, 601, dtype=np.float32)
    np.testing.assert_allclose(wave(phase), wave(phase + np.float32(1)), atol=2e-5)
    assert float(np.abs(wave(phase)).max()) <= 1.0


def test_a_written_set_is_coco_json_that_matches_the_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_rendered_set(folder, count=3, seed=20)
    labels = json.loads((folder / "annotations" / "person_keypoints.json").read_text(encoding="utf-8"))
    assert labels["info"]["seed"] == 20
    assert labels["categories"][0]["keypoints"] == list(LSP_14.keypoints)
    assert [image["file_name"] for image in labels["images"]] == ["000000.png", "000001.png", "000002.png"]
    for offset, annotation in enumerate(labels["annotations"]):
        result = picture(20 + offset)
        keypoints = np.array(annotation["keypoints"]).reshape(-1, 3)
        np.testing.assert_allclose(keypoints, result.keypoints, atol=0.006)
        left, top, width, height = annotation["bbox"]
        np.testing.assert_allclose((left, top), keypoints[:, :2].min(axis=0), atol=0.01)
        np.testing.assert_allclose((left + width, top + height), keypoints[:, :2].max(axis=0), atol=0.02)
        assert (annotation["num_keypoints"], annotation["iscrowd"], annotation["crop_scale"]) == (14, 0, 1.0)
        with Image.open(folder / "images" / labels["images"][offset]["file_name"]) as image:
            np.testing.assert_array_equal(np.asarray(image), result.pixels)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInputError, match="exists already"):
        write_rendered_set(tmp_path, count=1, seed=0)
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_a_set_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even size"):
        write_rendered_set(tmp_path / "set", count=1, seed=0, size=31)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("folder", "count", "seed"),
    [
        (bundled.bundled_pictures(), bundled.PICTURES_COUNT, bundled.PICTURES_SEED),
        (bundled.bundled_calibration_pictures(), bundled.CALIBRATION_COUNT, bundled.CALIBRATION_SEED),
    ],
)
def test_bundled_pictures_are_what_their_seeds_render(folder: Path, count: int, seed: int, tmp_path: Path) -> None:
    labels = json.loads((folder / "annotations" / "person_keypoints.json").read_text(encoding="utf-8"))
    assert len(labels["images"]) == len(list((folder / "images").iterdir())) == count
    fresh = tmp_path / "fresh"
    write_rendered_set(fresh, count=2, seed=seed, jpeg_quality=bundled.JPEG_QUALITY)
    for name in ("000000.jpg", "000001.jpg"):
        with Image.open(fresh / "images" / name) as ours, Image.open(folder / "images" / name) as theirs:
            # JPEG encoders of other Pillow builds may differ by a level or two; other pictures differ by tens.
            away = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
        assert float(away.mean()) < 0.5


def test_bundled_seeds_are_not_training_seeds() -> None:
    calibration = range(bundled.CALIBRATION_SEED, bundled.CALIBRATION_SEED + bundled.CALIBRATION_COUNT)
    pictures = range(bundled.PICTURES_SEED, bundled.PICTURES_SEED + bundled.PICTURES_COUNT)
    assert not set(calibration) & set(pictures)
    assert not any(seed in bundled.TRAINING_SEEDS for seed in (*calibration, *pictures))


def test_bundled_folders_are_small() -> None:
    total = sum(f.stat().st_size for f in bundled.bundled_pictures().rglob("*") if f.is_file())
    assert total < 16_000 * bundled.PICTURES_COUNT
