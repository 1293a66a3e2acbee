"""How far the keypoints that artifacts decode themselves are from what the host decodes of the same heatmaps.

Takes the folder of an export with ``--decode`` and runs its artifacts on all pictures of a set. Distances are those of
the axis that is farther off, in input pixels; ``not delegated`` lists what XNNPACK leaves (Core ML files do not say).

Example: ``lspdmobile export lspd-s -p w8a8 --decode -o runs/decode && python benchmarks/graph_decode.py runs/decode``
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich import box
from rich.table import Table

from harness import printed
from lspdmobile.data.bundled import bundled_pictures
from lspdmobile.data.views import load_views
from lspdmobile.decode import decode
from lspdmobile.measuring import LARGEST_DECODING_ERROR
from lspdmobile.predictor import converter_of, usage_of

_BATCH: Final = 16


@dataclass(frozen=True, kw_only=True)
class Distance:
    """One artifact's keypoints beside the host's; ``not_delegated`` is None where the file does not say."""

    artifact: str
    pictures: int
    joints: int
    mean_px: float
    max_px: float
    over_limit: int
    score: float
    not_delegated: tuple[str, ...] | None


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every artifact of the folder that decodes."""
    found = (_distance(path, options.data) for path in sorted(options.run.iterdir()) if options.only in path.name)
    return [asdict(each) for each in found if each is not None]


def _distance(path: Path, data: Path) -> Distance | None:
    """Measure one artifact; None for what is none, or gives heatmaps only."""
    known = converter_of(path)
    if known is None or len((facts := known[1].inspect(path)).outputs) == 1:
        return None
    contract, skeleton, rule = usage_of(path, facts.metadata)
    views, executor = load_views(data, contract, skeleton), known[1].open_executor(path)
    off = []
    for start in range(0, len(views), _BATCH):
        pictures = views.inputs(start, start + _BATCH)
        found = executor.keypoints(pictures)
        assert found is not None
        off.append(np.abs(found - decode(executor.heatmaps(pictures), contract=contract, rule=rule)))
    pixels, score = np.concatenate(off)[..., :2].max(axis=2), np.concatenate(off)[..., 2]
    return Distance(
        artifact=path.name,
        pictures=len(views),
        joints=pixels.size,
        mean_px=float(pixels.mean()),
        max_px=float(pixels.max()),
        over_limit=int((pixels > LARGEST_DECODING_ERROR).sum()),
        score=float(score.max()),
        not_delegated=facts.delegation.not_delegated if facts.delegation else None,
    )


def table(found: list[dict[str, Any]]) -> Table:
    """Show one line for each artifact."""
    shown = Table(box=box.MARKDOWN)
    over = f"over {LARGEST_DECODING_ERROR:g} px"
    for column in ("artifact", "pictures", "joints", "mean px", "max px", over, "max score", "not delegated"):
        shown.add_column(column)
    for each in (Distance(**fields) for fields in found):
        left = "not told" if each.not_delegated is None else ", ".join(each.not_delegated) or "none"
        counts = f"{each.pictures:,}", f"{each.joints:,}", f"{each.mean_px:.1e}", f"{each.max_px:.1e}"
        shown.add_row(each.artifact, *counts, f"{each.over_limit}", f"{each.score:.0e}", left)
    return shown


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, default=bundled_pictures(), help="labelled set or folder of pictures")
    parser.add_argument("--only", default="", help="part of the names of the artifacts to run")
    parser.add_argument("--json", action="store_true")
    return printed(parser.parse_args(), measured, table)[1]


if __name__ == "__main__":
    sys.exit(main())
