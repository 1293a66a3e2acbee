"""``lspdmobile predict``: keypoints drawn on a picture."""

from pathlib import Path
from typing import Annotated, Final

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import ArchArgsOpt, ArchOpt, ContractOpt, JsonOpt, OverwriteOpt, ThreadsOpt, VerboseOpt
from lspdmobile.cli.terminal import relative, working
from lspdmobile.errors import BadInputError

__all__ = ["predict"]

_COLOUR: Final = (255, 145, 0)


@app.command()
def predict(
    subject: Annotated[str, typer.Argument(metavar="ARTIFACT|STUDENT", help="Exported file or student.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Picture of one person.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Picture to write; default: IMAGE_keypoints.png here.")
    ] = None,
    box: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option("--box", metavar="X Y W H", help="The person's box in pixels; default: the whole picture."),
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Draw joints with at least this score.")] = 0.15,
    threads: ThreadsOpt = 1,
    arch: ArchOpt = None,
    arch_args: ArchArgsOpt = None,
    contract: ContractOpt = None,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Find the keypoints of the person in a picture and draw them on it.

    [bold]Example:[/bold] lspdmobile predict runs/demo/lspd-s_w8a8.tflite person.jpg -o out.png
    """
    target = output or Path(f"{image.stem}_keypoints.png")
    if target.exists() and not overwrite:
        message = f"{target}: already exists; choose another --output or pass --overwrite"
        raise BadInputError(message)
    with working(verbose=verbose) as terminal:
        from PIL import Image

        from lspdmobile.data.pictures import read_picture
        from lspdmobile.data.views import view_of
        from lspdmobile.drawing import draw_skeleton
        from lspdmobile.predictor import open_predictor

        predictor = open_predictor(subject, arch=arch, arch_args=arch_args, contract=contract, threads=threads)
        picture = read_picture(image)
        points = predictor.keypoints(view_of(picture, predictor.contract, name=image.name, box=box))[0]
        drawn = draw_skeleton(picture, points, predictor.skeleton, colour=_COLOUR, threshold=threshold)
        try:
            Image.fromarray(drawn).save(target)
        except (OSError, ValueError) as error:
            message = f"{target}: cannot be written ({getattr(error, 'strerror', None) or error})"
            raise BadInputError(message) from error
        terminal.close()
        named = dict(zip(predictor.skeleton.keypoints, points.tolist(), strict=True))
        if json:
            terminal.show_json({"image": str(image), "drawn": str(target), "keypoints": named})
            return
        for name, (x, y, score) in named.items():
            terminal.show(f"{name:<16}{x:8.1f}{y:8.1f}  {score:.2f}")
        terminal.show(f"drawn: {relative(target)}")
