"""docs/formats.md promises precisions and layouts; the converters keep them."""

from pathlib import Path

import pytest

import lspdmobile
from converters import BACKENDS, FORMATS
from lspdmobile.choices import Backend, Format

DOC = Path(lspdmobile.__file__).parent.parent / "docs" / "formats.md"
COLUMNS = {Format.COREML: 2, Format.TFLITE: 3, Format.EXECUTORCH: 4}


def row(name: str, form: Format) -> str:
    """Give the cell of a format in the first table's row of that name."""
    line = next(line for line in DOC.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {name} |"))
    return line.split("|")[COLUMNS[form]].strip()


@pytest.mark.parametrize("form", Format)
def test_the_precisions_are_those_the_converter_takes(form: Format) -> None:
    assert row("precisions", form).split() == list(FORMATS[form].supported())


def test_the_precisions_of_the_core_ml_backend_are_those_it_takes() -> None:
    line = next(x for x in DOC.read_text(encoding="utf-8").splitlines() if x.startswith("| precisions with `--backend"))
    assert line.split("|")[2].split() == list(BACKENDS[Backend.COREML].supported())


@pytest.mark.parametrize("form", Format)
def test_the_first_layout_is_the_default_of_every_precision(form: Format) -> None:
    layouts = set(FORMATS[form].supported().values())
    assert {row("`--layout`", form).split()[0].rstrip(";")} == layouts
