import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lspdmobile.memory import added_by, input_shape, peak_mb, resident_mb

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process' memory")


_GONE_AGAIN = """
from lspdmobile.memory import peak_mb, reset_peak
assert reset_peak()
before = peak_mb()
block = bytearray(b"x") * 60_000_000
del block
print(peak_mb() - before)
"""


@linux
def test_the_peak_is_seen_after_it_is_over() -> None:
    """In a process of its own: one that has worked before may have the room already."""
    done = subprocess.run([sys.executable, "-c", _GONE_AGAIN], capture_output=True, text=True, check=True)

    assert 55 < float(done.stdout) < 90


@linux
def test_resident_memory_is_never_above_the_peak() -> None:
    now = resident_mb()

    assert now is not None
    assert 0 < now <= peak_mb()


def test_both_axis_orders_are_pictures() -> None:
    assert input_shape((1, 3, 96, 64)) == input_shape((1, 96, 64, 3)) == (1, 3, 96, 64)


class Heavy(nn.Module):
    """A network with a weight of a given number of megabytes."""

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        channels = megabytes * 1_000_000 // (4 * 256)
        self.reduce = nn.Conv2d(3, 256, 8, 8)
        self.wide = nn.Conv2d(256, channels, 1)
        self.back = nn.Conv2d(channels, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[1, 3, 16, 16]`` to ``[1, 3, 2, 2]``."""
        found: torch.Tensor = self.back(self.wide(self.reduce(x)))
        return found


@linux
def test_a_file_with_more_weights_adds_as_much_more(tmp_path: Path) -> None:
    """XNNPACK keeps a packed copy of the weights, and the file may stay mapped beside it."""
    litert_torch = pytest.importorskip("litert_torch")
    added = {}
    for megabytes in (1, 31):
        file = tmp_path / f"{megabytes}.tflite"
        litert_torch.convert(Heavy(megabytes).eval(), (torch.zeros(1, 3, 16, 16),)).export(str(file))
        found = added_by(file)
        assert found is not None
        added[megabytes] = found

    assert 30 * 0.95 < added[31] - added[1] < 2 * 30 * 1.1


def test_a_file_that_cannot_be_run_has_no_figure(tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"nothing")

    assert added_by(tmp_path / "broken.tflite") is None
