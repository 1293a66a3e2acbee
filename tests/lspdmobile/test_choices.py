"""Formats and precisions as users write them."""

import pytest

from lspdmobile.choices import Format, Precision, Verdict, parse_formats, parse_precisions
from lspdmobile.errors import BadInputError


def test_a_comma_list_keeps_its_order_and_drops_repeats() -> None:
    assert parse_formats("tflite, coreml,litert") == (Format.TFLITE, Format.COREML)
    assert parse_precisions("w8a8,fp32,int8") == (Precision.W8A8, Precision.FP32)


@pytest.mark.parametrize(
    ("alias", "form"),
    [("mlpackage", Format.COREML), ("ios", Format.COREML), ("litert", Format.TFLITE), ("pte", Format.EXECUTORCH)],
)
def test_formats_have_aliases(alias: str, form: Format) -> None:
    assert parse_formats(alias.upper()) == (form,)


@pytest.mark.parametrize(
    ("alias", "precision"),
    [("float32", Precision.FP32), ("float16", Precision.FP16), ("int8", Precision.W8A8)],
)
def test_precisions_have_aliases(alias: str, precision: Precision) -> None:
    assert parse_precisions(alias) == (precision,)


def test_all_means_every_format_once() -> None:
    assert parse_formats("all") == tuple(Format)
    assert parse_formats("pte,all") == (Format.EXECUTORCH, Format.COREML, Format.TFLITE)


@pytest.mark.parametrize("name", [f.value for f in Format])
def test_every_format_is_its_own_name(name: str) -> None:
    assert parse_formats(name) == (Format(name),)


@pytest.mark.parametrize("name", [p.value for p in Precision])
def test_every_precision_is_its_own_name(name: str) -> None:
    assert parse_precisions(name) == (Precision(name),)


def test_a_slip_gets_the_nearest_name() -> None:
    with pytest.raises(BadInputError, match="unknown format 'tflight': did you mean 'tflite'"):
        parse_formats("coreml,tflight")


@pytest.mark.parametrize("text", ["", "coreml,", ",", "onnx9999"])
def test_what_is_nothing_like_a_format_gets_the_list(text: str) -> None:
    with pytest.raises(BadInputError, match=r"choose from coreml, tflite, executorch"):
        parse_formats(text)


def test_all_is_no_precision() -> None:
    with pytest.raises(BadInputError, match="unknown precision 'all'"):
        parse_precisions("all")


def test_file_suffixes_are_what_users_of_the_formats_expect() -> None:
    suffixes = {p.value: p.file_suffix for p in Precision}
    spelled = {"fp32": "float32", "fp16": "float16"}
    assert suffixes == {p.value: spelled.get(p.value, p.value) for p in Precision}


def test_palettes_are_float_precisions_with_as_many_bits_as_their_names_say() -> None:
    assert {p.value: p.palette_bits for p in Precision if p.palette_bits} == {"palette6": 6, "palette4": 4}
    half = [p for p in Precision if p.may_compute_in_float16]
    assert half == [Precision.FP16, Precision.W8, Precision.W4, Precision.PALETTE6, Precision.PALETTE4]


def test_only_integer_activations_need_calibration() -> None:
    assert [p for p in Precision if p.is_static_integer] == [Precision.W8A8, Precision.W8A16]


@pytest.mark.parametrize(
    ("verdicts", "overall"),
    [
        ((Verdict.PASS, Verdict.PASS), Verdict.PASS),
        ((Verdict.PASS, Verdict.UNDECIDED), Verdict.UNDECIDED),
        ((Verdict.UNDECIDED, Verdict.FAIL, Verdict.PASS), Verdict.FAIL),
        ((Verdict.PASS, Verdict.NOT_JUDGED), Verdict.FAIL),
    ],
)
def test_a_run_is_as_good_as_its_worst_artifact(verdicts: tuple[Verdict, ...], overall: Verdict) -> None:
    assert Verdict.overall(verdicts) is overall
