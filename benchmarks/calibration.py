"""Cost of calibration by estimator: time beside float forward passes, and peak memory for few and many pictures.

    python benchmarks/calibration.py [--student lspd-s] [--calib PATH] [--pictures 500] [--few 50] [--json]

Time: CPU seconds of one thread. Calibration counts whole, from exporting the network to the finished w8a8 plan, without
reading pictures; between any two pictures the float network runs on the same one, so both meet the same machine.
Memory: the largest resident memory of this process while pictures are read from their files and calibrated on, less
what it held before (MB = 10^6 bytes). Where there are fewer pictures than asked for, they come round again.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from harness import printed
from lspdmobile.choices import Estimator
from lspdmobile.memory import peak_mb, reset_peak


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one estimator costs.

    Attributes:
        estimator: Its name.
        float_seconds: The float passes in between.
        calibration_seconds: All of calibration; of that, ``ranges_seconds`` made ranges of what was seen.
        ratio: Calibration over float passes.
        few_mb, many_mb: Peak memory for few and for many pictures.
    """

    estimator: str
    float_seconds: float
    calibration_seconds: float
    ranges_seconds: float
    ratio: float
    few_mb: float
    many_mb: float


class Turns:
    """Pictures between which the float network runs on the picture that follows."""

    def __init__(self, network: Any, pictures: NDArray[np.float32], count: int) -> None:
        self.network, self.pictures, self.count = network, pictures, count
        self.float_seconds = 0.0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        import torch

        for index in range(self.count):
            picture = self.pictures[index % len(self.pictures)]
            started = time.thread_time()
            with torch.inference_mode():
                self.network(torch.from_numpy(picture[None]))
            self.float_seconds += time.thread_time() - started
            yield picture


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Calibrate with every estimator and give the result as it is printed with ``--json``."""
    import torch

    from lspdmobile.data.bundled import bundled_calibration_pictures
    from lspdmobile.data.views import find_views
    from lspdmobile.fusion import fuse
    from lspdmobile.student import load_student

    torch.set_num_threads(1)
    student = load_student(options.student)
    network = fuse(student.network, input_size=student.contract.input_size).network
    path = options.calib or bundled_calibration_pictures()
    views = find_views(path, student.contract, student.skeleton, split="train", limit=options.pictures)
    costs = [cost(network, views, estimator, options) for estimator in Estimator]
    return {
        "student": student.name,
        "pictures": options.pictures,
        "few": options.few,
        "different_pictures": len(views),
        "peak_can_be_reset": reset_peak(),
        "estimators": [asdict(each) for each in costs],
    }


def cost(network: Any, views: Any, estimator: Estimator, options: argparse.Namespace) -> Cost:
    """Measure one estimator: memory first, on pictures read from files, then time."""
    from lspdmobile.choices import Precision
    from quantization.calibrate import observe
    from quantization.plan import Estimation

    estimation = Estimation(estimator=estimator)
    few, many = (peak_of(network, views, count, estimation) for count in (options.few, options.pictures))
    turns = Turns(network, views.inputs(), options.pictures)
    started = time.thread_time()
    calibration = observe(network, turns, estimation=estimation)
    seen = time.thread_time()
    calibration.plan(Precision.W8A8)
    ended = time.thread_time()
    whole = ended - started - turns.float_seconds
    return Cost(
        estimator=estimator.value,
        float_seconds=round(turns.float_seconds, 2),
        calibration_seconds=round(whole, 2),
        ranges_seconds=round(ended - seen, 2),
        ratio=round(whole / turns.float_seconds, 2),
        few_mb=round(few, 1),
        many_mb=round(many, 1),
    )


def peak_of(network: Any, views: Any, count: int, estimation: Any) -> float:
    """Give the peak memory of calibrating on so many pictures, which are read one by one."""
    from lspdmobile.calibrating import CalibrationPictures
    from quantization.calibrate import observe

    files = replace(
        views,
        files=tuple(views.files[i % len(views)] for i in range(count)),
        persons=tuple(views.persons[i % len(views)] for i in range(count)) if views.persons else (),
    )
    reset_peak()
    before = peak_mb()
    observe(network, CalibrationPictures(files), estimation=estimation)
    return peak_mb() - before


def table_of(found: dict[str, Any]) -> Table:
    """Lay the costs out, one estimator a row."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("estimator")
    headings = ("float s", "calibration s", "of it ranges s", "ratio")
    for heading in (*headings, f"peak MB, {found['few']} pictures", f"peak MB, {found['pictures']}"):
        table.add_column(heading, justify="right")
    for name, *values, few, many in (each.values() for each in found["estimators"]):
        seconds, whole, ranges, ratio = values
        table.add_row(
            name, f"{seconds:.2f}", f"{whole:.2f}", f"{ranges:.2f}", f"{ratio:.2f}", f"{few:.0f}", f"{many:.0f}"
        )
    return table


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Cost of calibration by estimator.")
    parser.add_argument("--student", default="lspd-s", help="bundled name or checkpoint")
    parser.add_argument("--calib", type=Path, help="pictures to calibrate on; default: bundled")
    parser.add_argument("--pictures", type=int, default=500, help="how many")
    parser.add_argument("--few", type=int, default=50, help="how many for the other measurement of memory")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return printed(parser.parse_args(), measured, table_of)[1]


if __name__ == "__main__":
    sys.exit(main())
