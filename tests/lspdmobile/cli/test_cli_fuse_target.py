"""``fuse --target``: forms are chosen by what they cost there."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lspdmobile.cli.conftest import Cli


BAD_INPUT = 2


def test_the_certificate_and_the_output_name_the_target(student_file: Path, tmp_path: Path, cli: "Cli") -> None:
    done = cli("fuse", student_file, "--target", "coreml-ane", "--int8", "-o", tmp_path / "fused")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "fused" / "fusion.json").read_text(encoding="utf-8"))["target"] == "coreml-ane"
    assert "prices: derived from published latencies, not measured here" in done.out


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--target", "abacus"], "unknown target 'abacus': choose from litert-xnnpack"), (["--int8"], "name one with")],
)
def test_what_makes_no_sense_is_refused(
    options: list[str], said: str, student_file: Path, tmp_path: Path, cli: "Cli"
) -> None:
    done = cli("fuse", student_file, *options, "-o", tmp_path / "fused")
    assert done.code == BAD_INPUT
    assert said in done.err
    assert list(tmp_path.iterdir()) == []
