"""``lspdmobile inspect``: what is really inside an artifact."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import JsonOpt, VerboseOpt
from lspdmobile.cli.terminal import Terminal, working
from lspdmobile.errors import BadInputError

if TYPE_CHECKING:
    from lspdmobile.artifact import ArtifactFacts

__all__ = ["inspect"]


@app.command()
def inspect(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A .tflite, .pte or .mlpackage, ours or not.")],
    *,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Read inputs, outputs, operators, weight bytes by dtype, delegation and metadata from the file itself.

    [bold]Example:[/bold] lspdmobile inspect runs/demo/lspd-s_w8a8.tflite
    """
    with working(verbose=verbose) as terminal:
        from lspdmobile.artifact import sha256_of, size_in_bytes
        from lspdmobile.predictor import converter_of

        known = converter_of(artifact)
        if known is None:
            message = f"{artifact}: an artifact is a .tflite, .pte or .mlpackage"
            raise BadInputError(message)
        if not artifact.exists():
            message = f"{artifact}: no such artifact"
            raise BadInputError(message)
        form, converter = known
        facts = converter.inspect(artifact)
        size, digest = size_in_bytes(artifact), sha256_of(artifact)
        if json:
            terminal.show_json(
                {"file": str(artifact), "format": form, "bytes": size, "sha256": digest, **asdict(facts)}
            )
        else:
            terminal.show(f"{artifact.name}: {form}, {size:,} bytes, sha256 {digest[:16]}…")
            _show(terminal, facts)


def _show(terminal: Terminal, facts: "ArtifactFacts") -> None:
    for kind, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        for t in tensors:
            terminal.show(f"{kind:<8}{t.name} {list(t.shape)} {t.dtype}")
    weights = ", ".join(f"{name} {count:,}" for name, count in sorted(facts.weight_bytes_by_dtype.items()))
    terminal.show(f"weights {weights or 'none'} (bytes)")
    counts = sorted(facts.ops.items(), key=lambda item: (-item[1], item[0]))
    terminal.show("ops     " + ", ".join(f"{name} x{count}" for name, count in counts))
    if facts.delegation is None:
        terminal.show("delegate cannot be told from the file on this machine")
    else:
        d = facts.delegation
        left = f"; left behind: {', '.join(d.not_delegated)}" if d.not_delegated else ""
        terminal.show(f"delegate {d.delegate}: {d.delegated} of {d.total} operators ({d.fraction:.0%}){left}")
    for key, value in facts.metadata.items():
        terminal.show(f"metadata {key}: {value}")
