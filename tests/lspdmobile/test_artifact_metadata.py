import json
from dataclasses import replace

import pytest

from lspdmobile import __version__
from lspdmobile.artifact_metadata import metadata_of
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.student import Student


def test_an_artifact_says_how_to_use_it_what_it_scored_and_what_it_was_made_of(student: Student) -> None:
    entries = metadata_of(replace(student, sha256="0123456789abcdef", licence="MIT"))
    assert PreprocessContract.from_dict(json.loads(entries["preprocess"])) == student.contract
    assert json.loads(entries["skeleton"])["keypoints"] == list(student.skeleton.keypoints)
    assert json.loads(entries["metrics"]) == {"val": {"pck@0.2": 0.5}}
    assert (entries["decode_rule"], entries["license"], entries["student"]) == ("quarter", "MIT", "tiny")
    assert (entries["checkpoint_sha256"], entries["version"]) == ("0123456789abcdef", "0123456789ab")
    assert json.loads(entries["tool_versions"])["lspdmobile"] == __version__


def test_descriptions_name_what_a_reader_has_to_get_right(student: Student) -> None:
    entries = metadata_of(student)
    assert "64x64, BGR, each channel (value / 255 - 0.485, 0.456, 0.406)" in entries["input_description"]
    assert "Heatmaps of 14 joints (right_ankle, " in entries["heatmaps_description"]
    assert entries["heatmaps_description"].endswith("cells of 8 pixels; decode by quarter")
    assert "14 joints of lsp-14" in entries["short_description"]
    scores = metadata_of(replace(student, decode_rule="simcc"))["heatmaps_description"]
    assert scores.startswith("Scores of 14 joints")
    assert "cells" not in scores


def test_whoever_made_it_is_named_where_its_provenance_says(student: Student) -> None:
    assert metadata_of(student)["author"] == f"exported by lspdmobile {__version__}"
    assert metadata_of(replace(student, provenance={"author": "Jane Doe"}))["author"] == "Jane Doe"


def test_what_is_not_known_is_left_out(student: Student) -> None:
    entries = metadata_of(replace(student, metrics={}))
    assert "metrics" not in entries
    assert "version" not in entries
    assert entries["checkpoint_sha256"] == ""


def test_builds_of_the_same_pins_say_the_same(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"lspdmobile": __version__, "python": "3.11.7", "torch": "2.13.0+cpu", "tensorflow": "2.21.0"}
    monkeypatch.setattr("lspdmobile.artifact_metadata.versions", lambda: installed)
    assert json.loads(metadata_of(student)["tool_versions"]) == {"lspdmobile": __version__, "torch": "2.13.0"}
