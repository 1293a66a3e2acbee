"""Networks of other people as packages in every form: the MIL executor gives what PyTorch gives.

Forms, references and bounds are explained in benchmarks/mil_forms.py; docs/mil_networks.md is the table of all.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mil_forms import FORMS, Distance, Subject, executed
from benchmarks.mil_networks import page
from benchmarks.networks import NETWORKS

QUICK = [
    ("SqueezeNet 1.1", "w8a8"),
    ("ConvNeXt", "fp32"),
    ("ConvNeXt", "fp16"),
    ("ConvNeXt", "w8"),
    ("ConvNeXt", "p4"),
    ("PoolFormer", "fp32"),
]
SLOW = [(name, form) for name in NETWORKS for form in FORMS if (name, form) not in QUICK]

Saved = Callable[[str, str], tuple[Subject, Path]]
_subject = lru_cache(maxsize=3)(lambda name: Subject(NETWORKS[name]))


@pytest.fixture(autouse=True, scope="module")
def _forget(core_ml_tools: Any) -> Iterator[None]:  # noqa: ARG001  (loaded first, with its garbage collection tamed)
    yield
    _subject.cache_clear()


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Give a function that saves a network's package in a form: ``saved(name, form)``."""

    def save(name: str, form: str) -> tuple[Subject, Path]:
        subject, path = _subject(name), tmp_path / "network.mlpackage"
        subject.package(form).save(str(path))
        return subject, path

    return save


@pytest.mark.parametrize(("name", "form"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)])
def test_the_executor_gives_what_torch_gives(name: str, form: str, saved: Saved) -> None:
    subject, path = saved(name, form)
    distance = subject.distance(form, executed(path, subject.pictures))
    assert distance.holds, distance


def _change_a_byte(path: Path) -> None:
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    held = bytearray(file.read_bytes())
    held[len(held) // 3] ^= 0x50  # where no picture is too small for the kernel
    file.write_bytes(held)


def _scale(kind: str, attribute: str, factor: float) -> Callable[[Any], None]:
    """Give a change of a constant of the middle one of a kind's operations."""

    def change(model: Any) -> None:
        function = model.mlProgram.functions["main"]
        operations = function.block_specializations[function.opset].operations
        chosen = [operation for operation in operations if operation.type == kind]
        name = chosen[len(chosen) // 2].inputs[attribute].arguments[0].name
        constant = next(each for each in operations if each.outputs[0].name == name)
        floats = constant.attributes["val"].immediateValue.tensor.floats.values
        floats[:] = [value * factor for value in floats]

    return change


@pytest.mark.parametrize("form", ["w8", "p4"])
def test_one_wrong_weight_of_a_network_is_seen(form: str, saved: Saved) -> None:
    subject, path = saved("ConvNeXt", form)
    _change_a_byte(path)
    assert not subject.distance(form, executed(path, subject.pictures)).holds


@pytest.mark.parametrize(
    ("name", "form", "change"),
    [
        ("ConvNeXt", "fp32", _scale("layer_norm", "epsilon", 1000.0)),
        ("SqueezeNet 1.1", "w8a8", _scale("quantize", "scale", 1.5)),
    ],
    ids=["an epsilon", "a scale"],
)
def test_a_wrong_attribute_of_one_operation_is_seen(
    name: str, form: str, change: Callable[[Any], None], saved: Saved, edit: Callable[..., None]
) -> None:
    subject, path = saved(name, form)
    edit(path, change)
    assert not subject.distance(form, executed(path, subject.pictures)).holds


def test_the_page_is_what_the_benchmark_writes() -> None:
    """But for the numbers: all networks, in this order, each within its bounds."""
    nothing = Distance(found=0.0, allowed=1.0, pictures=2.0, differing=0.0)
    wanted = page({name: dict.fromkeys(FORMS, nothing) for name in NETWORKS}).splitlines()
    held = (Path(__file__).parents[4] / "docs" / "mil_networks.md").read_text(encoding="utf-8").splitlines()
    table = wanted.index(next(line for line in wanted if line.startswith("| network")))
    assert held[:table] == wanted[:table]
    assert [line.split("|")[:4] for line in held[table:-1]] == [line.split("|")[:4] for line in wanted[table:-1]]
    assert "**" not in "".join(held[table:])


def test_a_broken_bound_is_shown_in_bold() -> None:
    broken = Distance(found=2.0, allowed=1.0, pictures=3.0, differing=0.0)
    assert "**2.0e+00 of 1.0e+00**" in page({"U-Net": dict.fromkeys(FORMS, broken)})
