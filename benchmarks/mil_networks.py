"""How far the MIL executor is from PyTorch on networks of other people, in every form a package may have.

    python benchmarks/mil_networks.py docs/mil_networks.md [--networks "ResNet-10,U-Net"]

Builds, converts, saves, executes and compares; writes the table as a Markdown page, anew after each network. The whole
list takes about half an hour of one core. What is compared with what, and which bounds apply, is said in
benchmarks/mil_forms.py.
"""

import argparse
import logging
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.mil_forms import FORMS, ROUNDINGS, Distance, Subject, executed
from benchmarks.networks import NETWORKS

_HEAD: Final = f"""# The MIL executor on whole networks

<!-- Written by `python benchmarks/mil_networks.py docs/mil_networks.md`; change that script instead. -->

Networks that nobody here wrote, randomly initialised with random norms, were converted by Core ML Tools, saved, and run
from the file by `converters.coreml.mil`. Each cell is the relative distance `|found - reference| / |reference|` over
four pictures, then the largest that is allowed.

| form | package | reference | allowed |
|---|---|---|---|
| fp32 | float32 weights and arithmetic | PyTorch in float64 | {ROUNDINGS:g} times PyTorch's own distance in float32 |
| fp16 | float16 weights and arithmetic | PyTorch in float64 | {ROUNDINGS:g} times PyTorch's own distance in float16 |
| w8 | int8 weights per channel, float32 arithmetic | PyTorch in float64 with the package's weights | as fp32 |
| p6 | palettes of 64 evenly spaced weights, float32 arithmetic | as w8 | as fp32 |
| p4 | palettes of 16 weights by k-means, float32 arithmetic | as w8 | as fp32 |
| w8a8 | int8 weights and activations by PT2E, float32 between | the PT2E module in PyTorch | its distance from the \
float network |

*PyTorch's own distance* is what rounding costs in that network: the same network and pictures in PyTorch, in that
arithmetic against float64. Random deep networks amplify rounding, each by another factor, so no one number would bound
all of them. The executor rounds as often as PyTorch does, in other places: a sound one is about as far away as PyTorch
itself, a third of what is allowed.

*The package's weights* are those that Core ML Tools' own `decompress_weights` gives.

In w8a8 both sides compute on the same integer grids. A sum half way between two steps may be rounded either way, which
changes one value by one step and, through it, some of what follows: the share of output values that are not equal bit
for bit is given too. 0% means that every integer in the network agreed.

"""


def distances(name: str) -> dict[str, Distance]:
    """Convert, execute and compare one network in every form."""
    subject = Subject(NETWORKS[name])
    found: dict[str, Distance] = {}
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMS:
            path = Path(folder) / f"{form}.mlpackage"
            subject.package(form).save(str(path))
            found[form] = subject.distance(form, executed(path, subject.pictures))
    return found


def page(found: dict[str, dict[str, Distance]]) -> str:
    """Lay the results out as Markdown."""
    lines = [f"| network | from | picture | {' | '.join(FORMS)} |", "|---" * (3 + len(FORMS)) + "|"]
    for name, cells in found.items():
        network = NETWORKS[name]
        lines.append(
            f"| {name} | {network.package} | {network.size[0]}x{network.size[1]} | "
            + " | ".join(_cell(form, cells[form]) for form in FORMS)
            + " |"
        )
    packages = sorted({NETWORKS[name].package for name in found} | {"coremltools", "executorch", "torch"})
    versions = ", ".join(f"{package} {version(package).partition('+')[0]}" for package in packages)
    return _HEAD + "\n".join(lines) + f"\n\nMade with {versions}.\n"


def _cell(form: str, distance: Distance) -> str:
    text = f"{distance.found:.1e} of {distance.allowed:.1e}"
    if form == "w8a8":
        text += f", {distance.differing:.1%} differ"
    return text if distance.holds else f"**{text}**"


def main() -> int:
    """Measure and write; 3 where a bound is broken."""
    parser = argparse.ArgumentParser(description="The MIL executor beside PyTorch on networks of other people.")
    parser.add_argument("output", type=Path, help="Markdown page to write")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="comma list; default: all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    console = Console(stderr=True)
    found: dict[str, dict[str, Distance]] = {}
    for name in track(options.networks.split(","), console=console):
        found[name] = distances(name)
        options.output.write_text(page(found), encoding="utf-8")
    return 0 if all(each.holds for cells in found.values() for each in cells.values()) else 3


if __name__ == "__main__":
    sys.exit(main())
