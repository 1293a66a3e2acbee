"""``lspdmobile fuse``: fusion alone, with its certificate."""

import json as json_lib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lspdmobile.cli.app import app
from lspdmobile.cli.options import ArchArgsOpt, ArchOpt, ContractOpt, JsonOpt, OverwriteOpt, SeedOpt, VerboseOpt
from lspdmobile.cli.terminal import relative, working
from lspdmobile.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lspdmobile.fusion import Fused

__all__ = ["fuse"]

NetworkArg = Annotated[
    str,
    typer.Argument(
        metavar="STUDENT|MODEL.pt2",
        help="A bundled name (lspd-s), a .safetensors file, a .pth with --arch, or any exported program.",
    ),
]


@app.command()
def fuse(
    network: NetworkArg,
    *,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder to make.")] = Path("runs/fuse"),
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="Choose forms by what they cost on xnnpack-arm, litert-xnnpack, executorch-xnnpack, coreml-ane or "
            "coreml-cpu (docs/fusion_targets.md); default: by size alone.",
        ),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="With --target: price forms in int8, not in float32.")] = False,
    largest_kernel: Annotated[
        int,
        typer.Option("--largest-kernel", min=1, help="Without --target: largest depthwise kernel to merge into."),
    ] = 5,
    seed: SeedOpt = 0,
    arch: ArchOpt = None,
    arch_args: ArchArgsOpt = None,
    contract: ContractOpt = None,
    overwrite: OverwriteOpt = False,
    json: JsonOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Fold norms and merge linear branches exactly; write the fused network and the certificate.

    A student gives its weights as .safetensors, an exported program (torch.export, .pt2) a program.

    [bold]Example:[/bold] lspdmobile fuse lspd-s --target litert-xnnpack -o runs/fuse
    """
    if int8 and target is None:
        message = "--int8 says what a form costs on a target: name one with --target"
        raise BadInputError(message)
    with working(verbose=verbose) as terminal:
        from lspdmobile.fusion.targets import target_named
        from lspdmobile.program import SUFFIX
        from lspdmobile.replacing import replacing_folder
        from lspdmobile.run_folder import refuse_to_replace_others

        model = target_named(target) if target else None
        is_program = Path(network).suffix == SUFFIX
        how = {"arch": arch, "arch_args": arch_args, "contract": contract}
        run = _program(Path(network)) if is_program else _student(network, how)
        if overwrite:
            refuse_to_replace_others(output_dir, marker="fusion.json")
        terminal.progress("fuse", 0, 1)
        with replacing_folder(output_dir, overwrite=overwrite) as folder:
            fused = run(
                folder, seed=seed, largest_kernel=largest_kernel, target=model, dtype="int8" if int8 else "fp32"
            )
            certificate = fused.certificate.to_dict()
            text = json_lib.dumps(certificate, indent=2) + "\n"
            (folder / "fusion.json").write_text(text, encoding="utf-8")
        terminal.close()
        if json:
            terminal.show_json(certificate)
            return
        found = fused.certificate
        terminal.show(
            found.summary,
            f"operators {found.operators_before} -> {found.operators_after}, "
            f"params {found.before.params:,} -> {found.after.params:,}, "
            f"MACs {found.before.macs:,} -> {found.after.macs:,}",
            *(f"int8: {line}" for line in found.advice),
            *([f"prices: {model.provenance}"] if model else []),
            f"certificate: {relative(output_dir / 'fusion.json')}",
        )


def _student(name: str, how: dict[str, Any]) -> "Callable[..., Fused]":
    """Load a student; gives what fuses it and writes its weights into a folder."""
    from lspdmobile.fusion import fuse as run
    from lspdmobile.opening import open_student
    from lspdmobile.weights import write_weights

    student = open_student(name, **how)

    def fused(folder: Path, **options: Any) -> "Fused":
        result = run(student.network, input_size=student.contract.input_size, **options)
        write_weights(result.network, folder / f"{student.name}_fused.safetensors")
        return result

    return fused


def _program(path: Path) -> "Callable[..., Fused]":
    """Load an exported program; gives what fuses it and writes the fused program into a folder."""
    from lspdmobile.fusion import fuse as run
    from lspdmobile.program import SUFFIX, load_program, save_program

    program = load_program(path)

    def fused(folder: Path, **options: Any) -> "Fused":
        result = run(program, **options)
        save_program(result.program(), folder / f"{path.stem}_fused{SUFFIX}")
        return result

    return fused
