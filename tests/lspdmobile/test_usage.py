"""Contract files: what they say, and what is said of those that cannot be used."""

from pathlib import Path

import pytest

from lspdmobile.errors import BadInputError
from lspdmobile.skeleton import COCO_17
from lspdmobile.usage import Usage, read_usage

ROOT = Path(__file__).parent.parent.parent
PLAIN = 'skeleton = "coco-17"\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n'
TABLE = 'mean = [0, 0, 0]\nstd = [1, 1, 1]\n[skeleton]\nname = "hand-4"\nkeypoints = ["palm", "l", "r", "tip"]\n'


def read(tmp_path: Path, text: str) -> Usage:
    path = tmp_path / "contract.toml"
    path.write_text(text, encoding="utf-8")
    return read_usage(path)


def test_the_shortest_contract_file(tmp_path: Path) -> None:
    usage = read(tmp_path, PLAIN)
    assert usage.skeleton is COCO_17
    assert (usage.mean, usage.std, usage.colour_order) == ((0, 0, 0), (1, 1, 1), "rgb")
    assert (usage.head, usage.decode_rule, usage.input_size, usage.heatmap_stride) == ("heatmap", "dark", None, None)
    assert usage.licence == "not stated"


def test_the_example_of_the_guide_is_one() -> None:
    assert read_usage(ROOT / "docs" / "examples" / "contract.toml").input_size == (192, 192)


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        ('decode_rule = "quarter"', "quarter"),
        ('head = "simcc"', "simcc"),
        ('head = "regression"', "regression"),
        ('head = "regression"\nunit = "fraction"', "regression"),
        ('head = "regression"\nunit = "pixel"', "regression-pixels"),
    ],
)
def test_head_and_unit_say_how_results_are_read(tmp_path: Path, lines: str, rule: str) -> None:
    assert read(tmp_path, PLAIN + lines).decode_rule == rule


def test_a_skeleton_of_ones_own(tmp_path: Path) -> None:
    more = 'limbs = [["palm", "tip"]]\nmirror = [["l", "r"]]\nsigmas = [0.1, 0.2, 0.2, 0.3]\ntorso = ["palm", "tip"]\n'
    skeleton = read(tmp_path, TABLE + more).skeleton
    assert skeleton.name == "hand-4"
    assert skeleton.limbs == ((0, 3),)
    assert skeleton.flip == (0, 2, 1, 3)
    assert (skeleton.torso, skeleton.head) == ((0, 3), None)
    assert skeleton.sigmas == (0.1, 0.2, 0.2, 0.3)


def test_torso_and_head_are_found_by_their_usual_names(tmp_path: Path) -> None:
    names = '["head_top", "neck", "right_hip", "left_shoulder", "right_shoulder"]'
    skeleton = read(tmp_path, TABLE.replace('["palm", "l", "r", "tip"]', names)).skeleton
    assert skeleton.torso == (3, 2)
    assert skeleton.head == (1, 0)
    assert skeleton.flip == (0, 1, 2, 4, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mean = [0, 0, 0]", "skeleton: Field required"),
        (PLAIN + "colour = 1", "colour: Extra inputs are not permitted"),
        (PLAIN.replace("[0, 0, 0]", "[123.7, 116.3, 103.5]"), "is on a scale of 0 to 255: divide mean and std by 255"),
        (PLAIN.replace("[1, 1, 1]", "[1, 0, 1]"), "is not three positive numbers"),
        (PLAIN.replace("coco-17", "coco"), "unknown skeleton 'coco'"),
        (PLAIN + 'head = "simcc"\nheatmap_stride = 4', "are of heatmaps, the head is 'simcc'"),
        (PLAIN + 'unit = "pixel"', "unit says what a regression head gives"),
        (TABLE.replace("hand-4", "lsp-14"), "is a skeleton of the tool's own"),
        (TABLE.replace('"tip"', '"palm"'), "two keypoints have one name"),
        (TABLE + 'limbs = [["palm", "thumb"]]', "no such keypoint: thumb"),
        (TABLE + "sigmas = [0.1]", "1 sigmas for 4 keypoints"),
        ("skeleton = ", "not a readable TOML file"),
    ],
)
def test_a_contract_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
    assert "contract.toml" in str(caught.value)


def test_a_missing_contract_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such contract file"):
        read_usage(tmp_path / "nowhere.toml")
