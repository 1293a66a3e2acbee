"""``lspdmobile jitter``: how much an artifact's keypoints shake over a film, beside the float student's."""

from pathlib import Path
from typing import Annotated

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import ArchOpt, JsonOpt, StudentArg, ThreadsOpt, VerboseOpt
from lspdmobile.cli.terminal import working
from lspdmobile.errors import BadInputError

__all__ = ["jitter"]


@app.command()
def jitter(
    student: StudentArg,
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Exported file of this student.")],
    frames: Annotated[Path, typer.Argument(metavar="FRAMES", help="Folder of pictures, in the order of their names.")],
    *,
    threads: ThreadsOpt = 1,
    arch: ArchOpt = None,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Compare how much keypoints shake from frame to frame: mean acceleration of float student and artifact.

    [bold]Example:[/bold] lspdmobile jitter lspd-s runs/demo/lspd-s_w8a8.tflite frames/
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.data.views import load_views
        from lspdmobile.parity.jitter import jitter as compare
        from lspdmobile.predictor import open_predictor
        from lspdmobile.report.tables import pixels

        networks = open_predictor(student, arch=arch), open_predictor(str(artifact), threads=threads)
        if networks[0].contract != networks[1].contract or networks[0].skeleton != networks[1].skeleton:
            message = f"{artifact}: takes other pictures or gives other joints than {student}; give its own student"
            raise BadInputError(message)
        terminal.progress("read frames", 0, 1)
        views = load_views(frames, networks[0].contract, networks[0].skeleton)
        if views.persons:
            message = f"{frames}: is a labelled set; frames are a plain folder of pictures, one person in each"
            raise BadInputError(message)
        points = [
            network.keypoints(views, progress=lambda done, total: terminal.progress("run", done, total))
            for network in networks
        ]
        found = compare(points[0], points[1])
        terminal.close()
        if json:
            terminal.show_json(found.to_dict())
            return
        terminal.show(
            f"{found.frames} frames; mean acceleration in pixels per frame squared:",
            f"float     {pixels(found.reference)}  {networks[0].name}",
            f"artifact  {pixels(found.artifact)}  {networks[1].name}",
            f"ratio     {found.ratio:.3f}; of the difference between the two {pixels(found.apart)}",
        )
