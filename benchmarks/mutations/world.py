"""What faults are planted in: two small students, a run of each, and packages that our emitter would not write itself.

The students are trained for some seconds to find coloured dots: every layer matters, and heatmaps have peaks, so that
quantization is judged fairly.
"""

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F

from converters import coreml
from lspdmobile.artifact import EmitRequest, sha256_of, size_in_bytes
from lspdmobile.artifact_metadata import metadata_of
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.data.views import load_views
from lspdmobile.fusion import fuse
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.plans import PLAN
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.run import ExportRequest, export
from lspdmobile.run_folder import MANIFEST, REPORT
from lspdmobile.skeleton import LSP_14
from lspdmobile.student import Student, load_student, save_student
from quantization.plan import QuantizationPlan

__all__ = ["CONFIGS", "exported", "listed", "only", "silent", "world"]

_SIZE: Final = 64
_PICTURES: Final = 8
_LEARNT_FROM: Final = 64
_BATCH: Final = 16
_STEPS: Final = 100
_COLOURS: Final = ((230, 40, 40), (40, 230, 40), (40, 40, 230))
_SHAPE: Final[Mapping[str, Any]] = {
    "keypoints": LSP_14.count,
    "input_size": (_SIZE, _SIZE),
    "features": 16,
    "mid_channels": 12,
    "blocks": 1,
    "stages": 1,
}

CONFIGS: Final[Mapping[str, LspdConfig]] = {
    "pyramid": LspdConfig(
        trunk="pyramid", pyramid_channels=(8, 8, 12, 16), pyramid_blocks=(1, 1, 1), detail=8, **_SHAPE
    ),
    "mobilenet": LspdConfig(trunk="mobilenet", width=0.1, **_SHAPE),
}
"""Shapes: residual sums and bilinear resizing in one, depthwise and dilated convolutions and ELU in the other."""


def exported(folder: Path, name: str) -> Path:
    """Export a student of one of :data:`CONFIGS` in every precision, and add the packages we do not write.

    Args:
        folder: Where pictures, student and run go; exists.
        name: Of the configuration.

    Returns:
        The run folder ``folder/name``, judged and passed.
    """
    checkpoint, pictures = world(folder, name)
    student = load_student(str(checkpoint))
    request = ExportRequest(
        student=student,
        formats=(Format.COREML,),
        precisions=(Precision.FP32, Precision.FP16, Precision.W8, Precision.W8A8),
        output_dir=folder / name,
        data=pictures,
        calibration=pictures,
        methods=(),
    )
    report = export(request, silent)
    if faults := [f"{a.file}: {a.reasons}" for a in report.artifacts if a.verdict != "pass"]:
        message = f"the unchanged packages do not pass: {faults}"
        raise RuntimeError(message)
    _add_others(folder / name, student)
    return folder / name


def world(folder: Path, name: str, *, pictures: int = _PICTURES) -> tuple[Path, Path]:
    """Train a student of :data:`CONFIGS`, and draw so many pictures that it has not seen.

    Returns:
        Its checkpoint and the folder of the pictures, both in ``folder``.
    """
    drawn, checkpoint = folder / f"{name}_pictures", folder / f"{name}.safetensors"
    _draw(drawn, pictures, seed=1)
    save_student(_student(name, folder), checkpoint)
    return checkpoint, drawn


def listed(run: Path, added: Mapping[str, str]) -> None:
    """Enter packages into a run's report, plan and manifest, with hashes, as the export that wrote them would have.

    Args:
        run: The run folder; the packages lie in it.
        added: New package to the one whose entry it takes over.
    """
    report, manifest = _read(run)
    for name, model in added.items():
        facts = {"sha256": sha256_of(run / name), "bytes": size_in_bytes(run / name)}
        entry = next(a for a in report["artifacts"] if a["file"] == model)
        report["artifacts"].append({**entry, **facts, "file": name})
        told = next(a for a in manifest["artifacts"] if a["file"] == model)
        manifest["artifacts"].append({**told, "file": name})
        manifest["files"][name] = facts
    plans = json.loads((run / PLAN).read_text(encoding="utf-8"))
    for plan in plans["plans"]:
        plan["files"] += [name for name, model in added.items() if model in plan["files"]]
    (run / PLAN).write_text(json.dumps(plans), encoding="utf-8")
    manifest["files"][PLAN] = {"sha256": sha256_of(run / PLAN), "bytes": size_in_bytes(run / PLAN)}
    _write(run, report, manifest)


def only(run: Path, *names: str) -> None:
    """Take every package but these out of a run."""
    report, manifest = _read(run)
    for entry in report["artifacts"]:
        if entry["file"] not in names:
            shutil.rmtree(run / entry["file"])
            del manifest["files"][entry["file"]]
    for part in (report, manifest):
        part["artifacts"] = [a for a in part["artifacts"] if a["file"] in names]
    _write(run, report, manifest)


def _read(run: Path) -> tuple[Any, Any]:
    report, manifest = (json.loads((run / file).read_text(encoding="utf-8")) for file in (REPORT, MANIFEST))
    return report, manifest


def _write(run: Path, report: Any, manifest: Any) -> None:
    (run / REPORT).write_text(json.dumps(report), encoding="utf-8")
    manifest["files"][REPORT] = {"sha256": sha256_of(run / REPORT), "bytes": size_in_bytes(run / REPORT)}
    (run / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _add_others(run: Path, student: Student) -> None:
    """Add a package with other operations, and one with palettes where these keep to the limit of float16."""
    name = student.name
    added = {f"{name}_rephrased.mlpackage": f"{name}_float32.mlpackage"}
    _rephrase(run / f"{name}_rephrased.mlpackage", student)
    if name == "pyramid":
        added[f"{name}_palette.mlpackage"] = f"{name}_float16.mlpackage"
        _palettise(run / f"{name}_float16.mlpackage", run / f"{name}_palette.mlpackage", student)
    listed(run, added)


def silent(step: str, done: int, total: int) -> None:
    """Report no progress."""


def _draw(folder: Path, count: int, *, seed: int) -> list[list[tuple[float, float]]]:
    """Draw pictures with a red, a green and a blue dot; gives where the dots are."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    places = []
    for index in range(count):
        ground = Image.fromarray(generator.normal(90, 12, (_SIZE, _SIZE, 3)).clip(0, 255).astype(np.uint8))
        canvas = ImageDraw.Draw(ground)
        angles = generator.uniform(0, 2 * np.pi) + 2 * np.pi * (np.arange(3) + generator.uniform(-0.2, 0.2, 3)) / 3
        dots = [(_SIZE / 2 + 18 * float(np.cos(a)), _SIZE / 2 + 18 * float(np.sin(a))) for a in angles]
        for (x, y), colour in zip(dots, _COLOURS, strict=True):
            canvas.ellipse((x - 7, y - 7, x + 7, y + 7), fill=colour)
        ground.save(folder / f"{index:03}.png")
        places.append(dots)
    return places


def _student(name: str, folder: Path) -> Student:
    """Train for some seconds to find the dots: joint k is dot k modulo 3, a little higher than joint k - 1."""
    config = CONFIGS[name]
    torch.manual_seed(5)
    network = LspdStudent(config)
    contract = PreprocessContract(input_size=config.input_size, heatmap_stride=config.heatmap_stride)
    places = torch.tensor(_draw(folder / f"{name}_learnt", _LEARNT_FROM, seed=2))
    inputs = torch.from_numpy(load_views(folder / f"{name}_learnt", contract, LSP_14).inputs())
    centres = (torch.arange(_SIZE // config.heatmap_stride) + 0.5) * config.heatmap_stride
    across, down = (centres - places[:, :, axis, None] for axis in (0, 1))
    peaks = torch.exp(-(across[:, :, None, :] ** 2 + down[:, :, :, None] ** 2) / (2 * 6.0**2))
    wanted = torch.stack([peaks[:, k % 3] * (0.6 + 0.03 * k) for k in range(LSP_14.count)], dim=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(_STEPS):
        chosen = torch.arange(step * _BATCH, (step + 1) * _BATCH) % _LEARNT_FROM
        optimizer.zero_grad()
        (network(inputs[chosen]) - wanted[chosen]).square().mean().mul(100).backward()
        optimizer.step()
    return Student(name=name, network=network.eval(), config=config, contract=contract, skeleton=LSP_14)


def _palettise(source: Path, target: Path, student: Student) -> None:
    """Compress a float16 package with Core ML Tools: 256 entries for each weight."""
    import coremltools
    from coremltools.optimize import coreml as optimize

    config = optimize.OpPalettizerConfig(mode="kmeans", nbits=8, weight_threshold=0)
    original = Path(shutil.copytree(source, target.with_name(f".{target.name}")))  # reading it changes its files
    model = coremltools.models.MLModel(str(original), skip_model_load=True)
    palettised = optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=config))
    palettised.user_defined_metadata.update(metadata_of(student))
    palettised.save(str(target))
    shutil.rmtree(original)


def _rephrase(target: Path, student: Student) -> None:
    fused = fuse(student.network, input_size=student.contract.input_size).network
    request = EmitRequest(
        network=_Rephrased(fused).eval(),
        plan=QuantizationPlan(precision=Precision.FP32),
        input_size=student.contract.input_size,
        layout=Layout.NCHW,
        metadata=metadata_of(student),
        deployment_target="iOS17",
        path=target,
    )
    coreml.emit(request)


class _Rephrased(nn.Module):
    """The same function said with more operations: each line of ``forward`` undoes itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to heatmaps."""
        mean = x.mean((2, 3), keepdim=True)
        x = (x - mean) + mean
        x = (x * (x * x + 1)) / (x * x + 1)
        heatmaps = self.network(x)
        rim = torch.cat([heatmaps[..., :1], heatmaps, heatmaps[..., -1:]], dim=-1)
        rim = torch.cat([rim[..., :1, :], rim, rim[..., -1:, :]], dim=-2)
        padded = F.pad(heatmaps, (1, 1, 1, 1), mode="replicate")
        heatmaps = heatmaps + (F.avg_pool2d(padded, 3, 1) - F.avg_pool2d(rim, 3, 1))
        y = torch.cat([heatmaps[:, :5], heatmaps[:, 5:]], dim=1).permute(0, 2, 3, 1)
        centre = y.mean(-1, keepdim=True)
        spread = ((y - centre).square().mean(-1, keepdim=True) + 1e-5).sqrt()
        y = F.layer_norm(y, (y.shape[-1],)) * spread + centre
        y = F.softmax(y, dim=-1).log() + y.logsumexp(-1, keepdim=True)
        return y.permute(0, 3, 1, 2).clamp(-4, 4)
