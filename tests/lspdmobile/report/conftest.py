"""A report such as a run leaves: every format, one artifact that failed, one that could not be converted."""

import math

import numpy as np
import pytest

from lspdmobile.artifact import Delegation
from lspdmobile.choices import Format, Layout, Precision, Verdict
from lspdmobile.parity.compare import Drift, Parity
from lspdmobile.parity.drop import MetricDrop
from lspdmobile.report.schema import (
    ArtifactEntry,
    DelegationEntry,
    FusionEntry,
    LayerEntry,
    ParityEntry,
    RangesEntry,
    ReferenceEntry,
    Report,
    StudentEntry,
)
from lspdmobile.skeleton import LSP_14


def make_parity(drift_px: float, *, snr_db: float = 41.26, max_abs: float = 0.004) -> Parity:
    """Make parity evidence of 48 pictures whose drift scales with one number."""
    return Parity(
        images=48,
        heatmap_snr_db=snr_db,
        heatmap_max_abs=max_abs,
        heatmap_relative_error=max_abs,
        drift_px=Drift(
            mean=drift_px,
            p95=3 * drift_px,
            max=50 * drift_px,
            worst_image=7,
            agreement=0.99,
            agreement_pck={"agreement@0.05": 0.995},
            per_image=np.full(48, drift_px, np.float32),
            per_joint=np.full(14, drift_px, np.float32),
        ),
        cell_px=8,
    )


EXECUTORS = {
    Format.COREML: "MIL executor 0.1.0 (coremltools 9.0)",
    Format.TFLITE: "LiteRT 2.3.0 (XNNPACK)",
    Format.EXECUTORCH: "ExecuTorch 1.4.1 (XNNPACK)",
}


def make_artifact(
    format_: Format, precision: Precision, parity: Parity | None, *, drop: float | None, verdict: Verdict
) -> ArtifactEntry:
    """Make one artifact's entry."""
    measured = (
        None
        if drop is None
        else MetricDrop(
            name="pck@0.2",
            float_value=0.6123,
            artifact_value=0.6123 - drop / 100,
            drop=drop,
            joints=672,
            moved=5,
            per_picture=np.full(48, drop),
        )
    )
    return ArtifactEntry(
        file=f"lspd-s_{precision.file_suffix}.{format_.value}",
        format=format_,
        precision=precision,
        bytes=1_876_543,
        sha256="ab" * 32,
        params=1_070_000,
        macs=456_700_000,
        weight_bytes_by_dtype={"int8": 1_060_000, "float32": 9_000},
        executed_by=EXECUTORS[format_],
        export_seconds=12.345,
        latency_ms=None,
        delegation=DelegationEntry.of(
            Delegation(delegate="XNNPACK", delegated=55, total=57, not_delegated=("RESIZE_BILINEAR x2",))
        ),
        parity=None
        if parity is None
        else ParityEntry.of(
            parity,
            measured,
            worst_picture="000007.jpg",
            joints=LSP_14.keypoints,
            per_joint=dict.fromkeys(LSP_14.keypoints, 0.6),
            distances=np.full((48, 14), parity.drift_px.mean, np.float32),
        ),
        verdict=verdict,
        reasons=(f"95% of the joints drift by at most {3 * parity.drift_px.mean:.2f} px",) if parity else ("refused",),
        layout=Layout.NHWC,
        notes=("iOS17 is needed",),
        weight_bytes_by_layer={
            "CONV_2D first": {"int8": 1_000_000, "float32": 8_000},
            "CONV_2D last": {"int8": 60_000, "float32": 1_000},
        },
    )


@pytest.fixture
def parity() -> Parity:
    """Parity evidence of a sound artifact."""
    return make_parity(0.21)


@pytest.fixture
def report() -> Report:
    """A whole report with long executor names and every precision."""
    artifacts = [
        make_artifact(f, p, make_parity(0.02), drop=-0.004, verdict=Verdict.PASS)
        for f in Format
        for p in (Precision.FP32, Precision.FP16, Precision.W8A16)
    ]
    broken = make_parity(2.5, snr_db=4.0)
    artifacts.append(make_artifact(Format.TFLITE, Precision.W8A8, broken, drop=12.34, verdict=Verdict.FAIL))
    refused = make_artifact(Format.EXECUTORCH, Precision.W8, None, drop=None, verdict=Verdict.FAIL).model_copy(
        update={"bytes": None, "sha256": None, "executed_by": None, "delegation": None}
    )
    return Report(
        student=StudentEntry(
            name="lspd-s",
            architecture="lspd",
            skeleton="lsp-14",
            input_size=(192, 192),
            params=1_090_000,
            macs=470_000_000,
            bytes=4_380_000,
            sha256="cd" * 32,
        ),
        reference=ReferenceEntry(
            executed_by="PyTorch 2.13.0",
            data="bundled pictures",
            images=48,
            decode_rule="dark",
            metrics={"pck@0.2": 0.6123, "pckh@0.5": 0.64},
            per_joint={"pck@0.2": dict.fromkeys(LSP_14.keypoints, 0.61)},
        ),
        fusion=FusionEntry(
            params=1_070_000,
            macs=456_700_000,
            bytes=4_300_000,
            executed_by="PyTorch 2.13.0",
            parity=ParityEntry.of(make_parity(0.0, snr_db=math.inf, max_abs=0.0), None),
            certificate={"fp64_relative_error": 3.1e-15, "fp32_relative_error": 4.2e-7, "inputs": 8},
            layers=tuple(LayerEntry(name=f"stage.{i}", params=10 * i, macs=1000 * i) for i in range(1, 16)),
        ),
        plan={"precision": "w8a8", "ranges": {f"conv_{i}": [0.0, 1.0] for i in range(60)}},
        artifacts=(*artifacts, refused),
        verdict=Verdict.FAIL,
        environment={"python": "3.11.9", "torch": "2.13.0"},
        ranges=(RangesEntry(artifacts=("tflite w8a8",), ranges={"relu": (0.0, 1.0), "conv": (-2.0, 1.5)}),),
    )
