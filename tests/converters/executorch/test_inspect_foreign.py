"""Programs that ExecuTorch's own functions write and no emitter of ours does."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from converters import executorch, pte
from lspdmobile.artifact import ArtifactFacts
from lspdmobile.errors import BadInputError


class Small(nn.Module):
    """A convolution and a product, 6 times 3 times 9 and 6 times 4 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.last = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[N, 3, 8, 8]`` to ``[N, 4]``."""
        found: torch.Tensor = self.last(self.conv(x).amax((2, 3)))
        return found


WEIGHTS = sum(p.numel() for p in Small().parameters())
CONV_MACS = 6 * 6 * 6 * 3 * 9
PICTURE = (torch.zeros(2, 3, 8, 8),)


def edge(*, xnnpack: bool = False, **methods: Any) -> Any:
    """Lower methods; those of Small, and a layer of another size."""
    from executorch.exir import to_edge_transform_and_lower

    partitioner: list[Any] = []
    if xnnpack:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        partitioner = [XnnpackPartitioner()]
    return to_edge_transform_and_lower(methods, partitioner=partitioner, constant_methods={"get_answer": 42})


def read(path: Path, program: Any) -> ArtifactFacts:
    path.write_bytes(program.buffer)
    facts = pte.inspect(path)
    total = sum((Counter(held) for held in facts.weight_bytes_by_layer.values()), Counter[str]())
    assert total == Counter(facts.weight_bytes_by_dtype)
    return facts


@pytest.fixture(scope="module")
def exported() -> Any:
    return torch.export.export(Small().eval(), PICTURE)


@pytest.mark.parametrize("xnnpack", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_method_is_told_and_its_weights_are_counted(xnnpack: bool, exported: Any, tmp_path: Path) -> None:
    other = torch.export.export(nn.Linear(5, 2).eval(), (torch.zeros(1, 5),))
    program = edge(xnnpack=xnnpack, encode=exported, decode=other).to_executorch()
    facts = read(tmp_path / "two.pte", program)
    assert {part.name: part.outputs[0].shape for part in facts.parts} == {"encode": (2, 4), "decode": (1, 2)}
    assert [part.name for part in facts.parts if part.main] == ["decode"]
    assert facts.inputs[0].shape == (1, 5)
    assert {part.name: part.macs for part in facts.parts} == {"encode": 2 * (CONV_MACS + 6 * 4), "decode": 10}
    assert facts.weight_bytes_by_dtype == {"float32": 4 * (WEIGHTS + 5 * 2 + 2)}
    assert facts.metadata == {"get_answer": "42"}
    assert facts.delegation is not None
    assert facts.delegation.delegate == ("XNNPACK" if xnnpack else "none")


def test_constants_in_another_file_are_told_and_not_counted(exported: Any, tmp_path: Path) -> None:
    from executorch.exir import ExecutorchBackendConfig

    program = edge(forward=exported).to_executorch(ExecutorchBackendConfig(external_constants=True))
    facts = read(tmp_path / "outside.pte", program)
    assert facts.weight_bytes_by_dtype == {}
    assert sum(facts.elsewhere.values()) == 4 * WEIGHTS
    assert facts.parts == ()
    program.write_tensor_data_to_file(str(tmp_path))
    (data,) = tmp_path.glob("*.ptd")
    with pytest.raises(BadInputError, match=r"it is the data of a program"):
        executorch.inspect(data)


def test_lengths_that_may_change_are_told(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=5)
    open_program = torch.export.export(Small().eval(), PICTURE, dynamic_shapes=({0: batch},))
    facts = read(tmp_path / "open.pte", edge(forward=open_program).to_executorch())
    assert [(each.shape, each.sizes) for each in (*facts.inputs, *facts.outputs)] == [
        ((5, 3, 8, 8), "the largest; lengths may change"),
        ((5, 4), "the largest; lengths may change"),
    ]


def test_a_bundled_program_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "bundled.pte"
    path.write_bytes(b"\x1c\0\0\0BP08" + b"\0" * 64)
    with pytest.raises(BadInputError, match="it is a bundled program"):
        executorch.inspect(path)
