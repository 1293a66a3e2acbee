"""``lspdmobile inspect``: what is really inside an artifact."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import JsonOpt, MinDelegatedOpt, VerboseOpt
from lspdmobile.cli.terminal import Terminal, working
from lspdmobile.errors import BadInputError

if TYPE_CHECKING:
    from lspdmobile.artifact import ArtifactFacts, Converter, PrecisionLoss

__all__ = ["inspect"]

_PICTURES = 8
_HINTS = {
    ".mlmodel": "; save it as a package with Core ML Tools: MLModel('x.mlmodel').save('x.mlpackage')",
    ".mlmodelc": "; a compiled model cannot be opened: give the package it was compiled from",
    ".task": "; a task bundle is a ZIP archive: unpack it and give a .tflite file in it",
    ".bpte": "; a bundled program has a program and its tests: give the .pte it was made from",
    ".ptd": "; a .ptd file has the constants of a program: give the .pte",
}
_GATE_FAILED = 3


@app.command()
def inspect(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A .tflite, .pte or .mlpackage, ours or not.")],
    *,
    float16: Annotated[
        bool, typer.Option("--float16", help="Run it and say which values float16 arithmetic does not hold well.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Pictures for --float16: labelled set or folder; default: bundled.")
    ] = None,
    min_delegated: MinDelegatedOpt = None,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Read from the file itself: borders, layout, operators, weight bytes, grids, delegation, waste and metadata.

    [bold]Example:[/bold] lspdmobile inspect runs/demo/lspd-s_w8a8.tflite
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.artifact import sha256_of, size_in_bytes
        from lspdmobile.delegation_gate import delegation_faults, parse_min_delegated, require_targets
        from lspdmobile.predictor import converter_of

        limits = parse_min_delegated(min_delegated)
        known = converter_of(artifact)
        if known is None:
            hint = _HINTS.get(artifact.suffix, "")
            message = f"{artifact}: an artifact is a .tflite, .pte or .mlpackage{hint}"
            raise BadInputError(message)
        if not artifact.exists():
            message = f"{artifact}: no such artifact"
            raise BadInputError(message)
        form, converter = known
        require_targets(limits, (form,))
        facts = converter.inspect(artifact)
        size, digest = size_in_bytes(artifact), sha256_of(artifact)
        losses = _losses(artifact, facts, converter, data) if float16 else ()
        if json:
            shown = {"file": str(artifact), "format": form, "bytes": size, "sha256": digest, **asdict(facts)}
            found = [{**asdict(loss), "keep_fp32": sorted(loss.keep_fp32)} for loss in losses]
            terminal.show_json({**shown, "float16": found} if float16 else shown)
        else:
            terminal.show(f"{artifact.name}: {form}, {size:,} bytes, sha256 {digest[:16]}…")
            _show(terminal, facts)
            for loss in losses:
                terminal.show(f"float16 {loss.made_by}: {loss.why}; keep {', '.join(sorted(loss.keep_fp32))}")
            if float16 and not losses:
                terminal.show("float16 holds every value it computes with")
        faults = delegation_faults(limits, form, facts.delegation, facts.forecasts)
        terminal.close()
        for fault in faults:
            terminal.err.print(f"error: {fault}", soft_wrap=True)
        if faults:
            raise typer.Exit(_GATE_FAILED)


def _losses(
    artifact: Path, facts: "ArtifactFacts", converter: "Converter", data: Path | None
) -> "tuple[PrecisionLoss, ...]":
    """Scan an artifact that carries its preprocess contract."""
    from lspdmobile.data.bundled import bundled_calibration_pictures
    from lspdmobile.data.views import load_views
    from lspdmobile.predictor import usage_of

    contract, skeleton, _ = usage_of(artifact, facts.metadata)
    views = load_views(data or bundled_calibration_pictures(), contract, skeleton, limit=_PICTURES, seed=0)
    return converter.precision_losses(artifact, views.inputs())


def _show(terminal: Terminal, facts: "ArtifactFacts") -> None:
    from lspdmobile.report.contents import contents_lines

    terminal.show_wrapped(*contents_lines(facts))
