"""What a user can get wrong: one clear line, the documented exit code, and nothing left behind."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli, World


USAGE = 2


def missing_checkpoint(w: "World") -> list[object]:
    return w.export(student=w.folder / "nowhere.safetensors")


def truncated_checkpoint(w: "World") -> list[object]:
    w.student.write_bytes(w.student.read_bytes()[:-1000])
    return w.export()


def empty_checkpoint(w: "World") -> list[object]:
    w.student.write_bytes(b"")
    return w.export()


def state_dict_without_arch(w: "World") -> list[object]:
    torch.save({"weight": torch.zeros(3)}, w.folder / "weights.pth")
    return w.export(student=w.folder / "weights.pth")


def unknown_arch(w: "World") -> list[object]:
    torch.save({"weight": torch.zeros(3)}, w.folder / "weights.pth")
    return w.export("--arch", "lspd-xl", student=w.folder / "weights.pth")


def other_architecture(w: "World") -> list[object]:
    torch.save({"weight": torch.zeros(3)}, w.folder / "weights.pth")
    return w.export("--arch", "lspd-s", student=w.folder / "weights.pth")


def a_tensor_of_another_shape(w: "World") -> list[object]:
    def change(tensors: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
        tensors["stage.heatmap.bias"] = torch.zeros(9)

    return w.export(student=w.rewrite(change))


def nan_weights(w: "World") -> list[object]:
    def change(tensors: dict[str, torch.Tensor], _: dict[str, Any]) -> None:
        tensors["stage.heatmap.weight"][0, 0] = float("nan")

    return w.export(student=w.rewrite(change))


def a_name_that_leads_elsewhere(w: "World") -> list[object]:
    def change(_: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
        header["name"] = "../../elsewhere"

    return w.export(student=w.rewrite(change))


def empty_calibration_folder(w: "World") -> list[object]:
    (w.folder / "empty").mkdir()
    return w.export("--calib", w.folder / "empty")


def missing_calibration_folder(w: "World") -> list[object]:
    return w.export("--calib", w.folder / "nowhere")


def unreadable_calibration_picture(w: "World") -> list[object]:
    pictures = w.folder / "pictures"
    shutil.copytree(w.people / "images", pictures)
    damaged = pictures / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    return w.export("--calib", pictures)


def labels_of_missing_pictures(w: "World") -> list[object]:
    (w.people / "images" / "1.png").unlink()
    return w.export()


def labels_with_too_few_joints(w: "World") -> list[object]:
    file, content = w.labels()
    content["annotations"][2]["keypoints"] = content["annotations"][2]["keypoints"][:-3]
    file.write_text(json.dumps(content), encoding="utf-8")
    return w.export()


def labels_of_an_unknown_skeleton(w: "World") -> list[object]:
    file, content = w.labels()
    content["categories"][0]["keypoints"] = [f"paw {i}" for i in range(14)]
    file.write_text(json.dumps(content), encoding="utf-8")
    return w.export()


def labels_that_are_not_json(w: "World") -> list[object]:
    w.labels()[0].write_text("{", encoding="utf-8")
    return w.export()


def an_existing_output(w: "World") -> list[object]:
    w.output.mkdir()
    (w.output / "thesis.txt").write_text("mine", encoding="utf-8")
    return w.export()


def an_output_that_is_no_run(w: "World") -> list[object]:
    an_existing_output(w)
    return w.export("--overwrite")


def an_output_below_a_file(w: "World") -> list[object]:
    w.output.write_text("mine", encoding="utf-8")
    return w.export("-o", w.output / "below")


def unlabelled_pictures_to_score(w: "World") -> list[object]:
    return ["evaluate", w.student, "--data", w.people / "images"]


def garbage_to_inspect(w: "World") -> list[object]:
    (w.folder / "garbage.tflite").write_bytes(bytes(range(256)))
    return ["inspect", w.folder / "garbage.tflite"]


def a_picture_that_is_none(w: "World") -> list[object]:
    (w.folder / "notes.png").write_text("not a picture", encoding="utf-8")
    return ["predict", w.student, w.folder / "notes.png", "-o", w.output]


def a_drawing_over_something(w: "World") -> list[object]:
    w.output.write_text("mine", encoding="utf-8")
    return ["predict", w.student, w.people / "images" / "0.png", "-o", w.output]


def a_training_configuration_with_unknown_keys(w: "World") -> list[object]:
    (w.folder / "train.toml").write_text('recipe = "lspd"\nlearning_rat = 1\n', encoding="utf-8")
    return ["train", w.folder / "train.toml", "-o", w.output]


CASES: dict["Callable[[World], list[object]]", str] = {
    missing_checkpoint: "nowhere.safetensors: neither a bundled student",
    truncated_checkpoint: "may be truncated",
    empty_checkpoint: "not a readable .safetensors file",
    state_dict_without_arch: "add --arch",
    unknown_arch: "unknown preset 'lspd-xl': choose from lspd-s",
    other_architecture: "differences from the architecture: missing backbone",
    a_tensor_of_another_shape: "stage.heatmap.bias is (9,), (14,) expected",
    nan_weights: "not finite (NaN or infinity) in stage.heatmap.weight",
    a_name_that_leads_elsewhere: "'../../elsewhere'",
    empty_calibration_folder: "empty: holds no picture",
    missing_calibration_folder: "nowhere: no such folder of pictures",
    unreadable_calibration_picture: "3.png: not a readable picture",
    labels_of_missing_pictures: "1 of 8 pictures are missing, first",
    labels_with_too_few_joints: "annotation 2 has 39 keypoint numbers, 42 expected for lsp-14",
    labels_of_an_unknown_skeleton: "which shares 0 joints with the student's lsp-14",
    labels_that_are_not_json: "Expecting property name",
    an_existing_output: "already exists; choose another folder or pass --overwrite",
    an_output_that_is_no_run: "is not the folder of an earlier run",
    an_output_below_a_file: "below: cannot be written",
    unlabelled_pictures_to_score: "has no labels to score against",
    garbage_to_inspect: "garbage.tflite",
    a_picture_that_is_none: "notes.png: not a readable picture",
    a_drawing_over_something: "already exists; choose another --output",
    a_training_configuration_with_unknown_keys: "learning_rat: Extra inputs are not permitted",
    lambda w: w.export("-f", "tflight"): "unknown format 'tflight': did you mean 'tflite'?",
    lambda w: w.export("-p", "w8a7"): "unknown precision 'w8a7': did you mean",
    lambda w: w.export("-p", "int4!"): "unknown precision 'int4!'",
    lambda w: w.export("-f", "all", "--layout", "nhwc"): "Core ML packages are written as nchw, not nhwc",
    lambda w: w.export("-f", "executorch", "--layout", "nhwc"): "ExecuTorch artifacts take and give NCHW",
    lambda w: w.export("-f", "coreml", "--minimum-deployment-target", "iOS16"): "iOS17 or later, not 'iOS16'",
    lambda w: w.export("--max-drop", -1): "--max-drop -1: give a number",
    lambda w: w.export("--drop-type", "some"): "choose absolute or relative",
    lambda w: w.export("--input-size", 65, 64): "must be multiples of 32",
    lambda w: ["inspect", w.folder / "nowhere.tflite"]: "no such artifact",
    lambda w: ["inspect", w.student]: "an artifact is a .tflite, .pte or .mlpackage",
    lambda w: ["inspect", w.folder / "old.mlmodel"]: "save it as a package with Core ML Tools",
    lambda w: ["inspect", w.folder / "pose.task"]: "unpack it",
    lambda w: ["evaluate", w.folder / "nowhere.tflite"]: "no such artifact",
    lambda w: ["verify", w.people]: "manifest.json: cannot be read",
    lambda w: ["train", w.folder / "nowhere.toml"]: "no such training configuration",
}


@pytest.mark.parametrize(("case", "said"), CASES.items(), ids=[said[:40] for said in CASES.values()])
def test_bad_input_is_answered_in_one_line_and_leaves_nothing(
    case: "Callable[[World], list[object]]", said: str, world: "World", cli: "Cli"
) -> None:
    arguments = case(world)
    before = world.tree()
    done = cli(*arguments)
    assert done.code == USAGE, done.err
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert said in done.err
    assert world.tree() == before


def test_a_layout_that_a_format_cannot_give_is_refused_before_any_work(world: "World", cli: "Cli") -> None:
    """The calibration pictures, which are not there either, are not looked for."""
    done = cli(*world.export("-f", "all", "--layout", "nhwc", "--calib", world.folder / "nowhere"))
    assert "Core ML packages are written as nchw" in done.err
    assert not world.output.exists()


class Intruder:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_code_in_a_checkpoint_is_not_executed(world: "World", cli: "Cli") -> None:
    mark, file = world.folder / "intruded", world.folder / "weights.pth"
    torch.save({"weight": Intruder(mark)}, file)
    done = cli(*world.export("--arch", "lspd-s", student=file))
    assert done.code == USAGE
    assert "nothing in it was executed" in done.err
    assert not mark.exists()
    torch.load(file, weights_only=False)  # noqa: TID251 - shows that the planted code is alive
    assert mark.exists()


@pytest.mark.parametrize("arguments", [["export"], ["export", "x", "--layout", "nhcw"], ["exprot", "lspd-s"]])
def test_wrong_usage_ends_with_two_and_points_to_help(arguments: list[str], cli: "Cli") -> None:
    done = cli(*arguments)
    assert done.code == USAGE
    assert "for help" in done.err
