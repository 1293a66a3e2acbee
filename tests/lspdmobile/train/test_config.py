"""Training configurations: every fault is named before any work."""

import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from lspdmobile.errors import BadInputError
from lspdmobile.networks.lspd import LspdConfig
from lspdmobile.networks.presets import PRESETS
from lspdmobile.train.config import TrainConfig, read_config
from lspdmobile.train.recipes import network_config

ROOT = Path(__file__).parents[3]
GOOD = """
recipe = "lspd"
preset = "lspd-s"
[[phases]]
size = 64
epochs = 1
[data]
rendered = 8
"""


def read(folder: Path, text: str) -> TrainConfig:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(BadInputError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert message.startswith(str(folder / "run.toml"))
    return message


def test_the_shipped_configuration_can_be_read() -> None:
    config = read_config(ROOT / "configs" / "lspd-s.toml")
    assert config.preset in PRESETS
    assert config.data.train.endswith(".json")
    assert config.phases[-1].size == PRESETS[config.preset].input_size[0]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_every_configuration_in_the_repository_trains_a_network(path: Path) -> None:
    config = read_config(path)
    assert config.phases[-1].size == network_config(config).input_size[0]


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert (config.seed, config.batch_size, config.distill.weight, config.augment.flip) == (0, 32, 0.5, 0.5)
    assert config.phases[0].size == 64


def test_the_twin_without_distillation_differs_in_nothing_else() -> None:
    student, twin = (read_config(ROOT / "configs" / f"{name}.toml") for name in ("lspd-s", "lspd-s-undistilled"))
    same = {"stages": None, "distill": None}
    assert twin.model_copy(update=same) == student.model_copy(update=same)
    assert (twin.stages, twin.distill.weight) == (1, 0)


def test_fields_of_the_preset_can_be_replaced(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD + "[network]\nblocks = 1\npyramid_channels = [8, 8, 16, 24, 32]\n")
    expected = replace(cast("LspdConfig", PRESETS["lspd-s"]), blocks=1, pyramid_channels=(8, 8, 16, 24, 32))
    assert network_config(config) == expected
    assert network_config(config.model_copy(update={"stages": 4})) == replace(expected, stages=4)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("block = 1", "block: no such field"),
        ('blocks = "two"', "blocks: Input should be a valid integer"),
        ('trunk = "resnet"', "trunk: Input should be 'mobilenet' or 'pyramid'"),
        ('trunk = "mobilenet"', "only the pyramid trunk gives heatmaps at stride 4"),
    ],
)
def test_a_replaced_field_that_makes_no_network_is_refused(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=re.escape(said)):
        network_config(read(tmp_path, f"{GOOD}[network]\n{line}\n"))


def test_a_configuration_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        read(tmp_path, GOOD).seed = 3


def test_all_faults_are_listed(tmp_path: Path) -> None:
    text = """
recipe = "fpd"
batch_size = 0
ema = 1.5
surprise = 1
[[phases]]
size = 100
epochs = 0
[[phases]]
size = 64
epochs = 1
[data]
rendered = -1
[distill]
loss = "l1"
"""
    message = refusal(tmp_path, text)
    for fault in (
        "recipe: Input should be 'lspd', 'okdhp' or 'ldcrn'",
        "preset: Field required",
        "batch_size: Input should be greater than 0",
        "ema: Input should be less than or equal to 1",
        "surprise: Extra inputs are not permitted",
        "phases.0.size: Input should be a multiple of 32",
        "phases.0.epochs: Input should be greater than 0",
        "data.rendered: Input should be greater than or equal to 0",
        "distill.loss: Input should be 'mse', 'kl' or 'okdhp-kl'",
    ):
        assert fault in message
    assert message.count(";") == 8


@pytest.mark.parametrize(
    ("where", "line", "said"),
    [
        ("", "lr = 0.1", "lr: Extra inputs"),
        ("[data]", "pictures = 3", "data.pictures: Extra inputs"),
        ("[augment]", "blur = 0.1", "augment.blur: Extra inputs"),
        ("[distill]", "heat = 2", "distill.heat: Extra inputs"),
        ("[offline]", "score = 2", "offline.score: Extra inputs"),
    ],
)
def test_an_unknown_key_is_refused_wherever_it_stands(tmp_path: Path, where: str, line: str, said: str) -> None:
    text = f"{line}\n{GOOD}" if not where else GOOD.replace(where, f"{where}\n{line}")
    if where and where not in GOOD:
        text = f"{GOOD}\n{where}\n{line}\n"
    assert said in refusal(tmp_path, text)


@pytest.mark.parametrize("value", ["inf", "nan", "-0.1", "0"])
def test_a_learning_rate_is_a_positive_finite_number(tmp_path: Path, value: str) -> None:
    assert "learning_rate" in refusal(tmp_path, f"learning_rate = {value}\n{GOOD}")


def test_a_run_without_a_phase_is_refused(tmp_path: Path) -> None:
    text = 'recipe = "lspd"\npreset = "lspd-s"\nphases = []\n[data]\nrendered = 1\n'
    assert "phases: Tuple should have at least 1 item" in refusal(tmp_path, text)


def test_a_teacher_without_labels_is_refused(tmp_path: Path) -> None:
    assert "teacher is set, but train" in refusal(tmp_path, GOOD + 'teacher = "t.json"\n')


@pytest.mark.parametrize("content", [b"\xff\xfe", b"recipe = ", b"a = 1\na = 2"])
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="not a readable TOML file"):
        read_config(path)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such training configuration"):
        read_config(tmp_path / "gone.toml")
    with pytest.raises(BadInputError, match="not a readable TOML file"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("recipe", "name", "trained"),
    [
        ("lspd", "okdhp-s", "lspd-s, lspd-m"),
        ("lspd", "hrnet-w32", "lspd-s, lspd-m"),
        ("okdhp", "lspd-s", "okdhp-s, okdhp-hg2, okdhp-hg4, okdhp-hg4-unbalanced, okdhp-hg8"),
        ("ldcrn", "okdhp-s", "ldcrn-s, ldcrn-coco, ldcrn-mpii, hrnet-w32"),
    ],
)
def test_a_preset_of_another_recipe_is_refused(tmp_path: Path, recipe: str, name: str, trained: str) -> None:
    text = GOOD.replace('"lspd"', f'"{recipe}"').replace('"lspd-s"', f'"{name}"')
    with pytest.raises(BadInputError, match=rf"preset {name}: the recipe '{recipe}' trains the presets {trained}$"):
        network_config(read(tmp_path, text))


def test_pictures_that_the_network_cannot_halve_are_refused(tmp_path: Path) -> None:
    text = GOOD.replace('"lspd"', '"okdhp"').replace('"lspd-s"', '"okdhp-hg2"').replace("size = 64", "size = 96")
    with pytest.raises(BadInputError, match="phases: 96 is no multiple of 64, as preset okdhp-hg2 needs"):
        network_config(read(tmp_path, text))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("[distill]\nweight = 1.5", "distill: Value error, weight 1.5 leaves the labels less than nothing"),
        ("[offline]\nkeypoints = 1", "offline.keypoints is set, but data.teacher"),
        ("[offline]\nweight = -1", "offline.weight: Input should be greater than or equal to 0"),
        ("[distill]\ntemperature = 0", "distill.temperature: Input should be greater than 0"),
    ],
)
def test_a_distillation_that_makes_no_sense_is_refused(tmp_path: Path, lines: str, said: str) -> None:
    assert said in refusal(tmp_path, f"{GOOD}\n{lines}\n")


@pytest.mark.parametrize("more", ["keep_labels = true", 'loss = "kl"', 'loss = "okdhp-kl"'])
def test_a_weight_above_one_is_taken_where_the_labels_keep_theirs(tmp_path: Path, more: str) -> None:
    assert read(tmp_path, f"{GOOD}\n[distill]\nweight = 2\n{more}\n").distill.weight == 2


def test_only_a_chain_has_stages(tmp_path: Path) -> None:
    text = "stages = 2\n" + GOOD.replace('"lspd"', '"okdhp"')
    assert "recipe okdhp has none" in refusal(tmp_path, text)
