"""The model card says what is known of a student, and of everything else that it is not stated."""

from dataclasses import replace
from pathlib import Path

import pytest

from lspdmobile.report.model_card import render_model_card, teacher_of, write_model_card
from lspdmobile.report.schema import Report
from lspdmobile.student import Student

EVIL = "<script>alert('x')</script> | @all"


def test_it_holds_contract_skeleton_provenance_metrics_and_files(report: Report, student: Student) -> None:
    card = render_model_card(report, student)
    for line in (
        "# Model card: tiny",
        "| licence of the weights | Apache-2.0 |",
        "| made by | lspdmobile |",
        "| teacher | not stated |",
        "| output | decoded by quarter |",
        "| colour_order | bgr |",
        "| pictures | 5 |",
        "| recipe.seed | 3 |",
        "| val | 0.500 |",
    ):
        assert line in card
    assert "right ankle, right knee" in card
    for artifact in report.artifacts:
        assert f"| {artifact.file} |" in card
    assert "Judged on 48 pictures (bundled pictures)" in card


def test_a_network_of_others_shows_its_licence_and_maker_and_what_nobody_states(
    report: Report, student: Student
) -> None:
    foreign = replace(student, config=None, made_by="timm", licence="MIT", provenance={}, metrics={})
    card = render_model_card(report, foreign)
    assert "| licence of the weights | MIT |" in card
    assert "| made by | timm |" in card
    assert "Data and recipe: not stated." in card
    assert "What it was trained on is not stated" in card
    assert "## Metrics the student came with\n\nNot stated." in card
    unnamed = render_model_card(report, replace(foreign, made_by="", licence=""))
    assert unnamed.count("not stated |") == 5, "licence, maker, architecture, teacher, hash"


def test_without_labels_it_says_what_was_not_measured(report: Report, student: Student) -> None:
    blind = report.model_copy(update={"reference": report.reference.model_copy(update={"metrics": {}})})
    assert "There were no labels" in render_model_card(blind, student)
    assert "There were no labels" not in render_model_card(report, student)


def test_no_text_of_a_student_becomes_markup(report: Report, student: Student) -> None:
    evil = replace(student, name=EVIL, made_by=EVIL, licence=EVIL, provenance={EVIL: EVIL}, metrics={EVIL: {"x": 0.5}})
    card = render_model_card(report, evil)
    assert "<script" not in card
    assert "&lt;script&gt;" in card
    assert " @all" not in card


def test_a_long_provenance_is_cut_and_counted(report: Report, student: Student) -> None:
    card = render_model_card(report, replace(student, provenance={f"key_{i}": i for i in range(50)}))
    assert "| key_39 | 39 |" in card
    assert "key_40" not in card
    assert "10 more are in the metadata of the float file." in card


@pytest.mark.parametrize(
    ("provenance", "teacher"),
    [
        ({"recipe": {"data": {"teacher": "annotations/movenet.json"}}}, "movenet.json"),
        ({"recipe": {"data": {"teacher": ""}, "offline": {"network": "runs/big.safetensors"}}}, "big.safetensors"),
        ({"recipe": {"data": None}}, ""),
        ({"recipe": "by hand"}, ""),
        ({}, ""),
    ],
)
def test_the_teacher_is_the_one_the_recipe_names(provenance: dict[str, object], teacher: str) -> None:
    assert teacher_of(provenance) == teacher


def test_it_is_written(report: Report, student: Student, tmp_path: Path) -> None:
    write_model_card(tmp_path / "MODEL_CARD.md", report, student)
    assert (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8") == render_model_card(report, student)
