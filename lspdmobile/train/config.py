"""The training configuration: a TOML file, checked before any work."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lspdmobile.toml_file import read_toml

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "DistillConfig",
    "OfflineConfig",
    "PhaseConfig",
    "RecipeName",
    "TrainConfig",
    "read_config",
]

RecipeName = Literal["lspd", "okdhp", "ldcrn"]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Strict):
    """Where the pictures come from.

    Attributes:
        train, val: COCO-keypoint label files, relative to the data folder given on the command line; empty for none.
        train_pictures: So many of the train labels, evenly spread over the file; 0 for all.
        teacher: Teacher keypoints for the train labels (17 COCO joints per person); empty for none.
        labels: ``"joined"`` mends the train labels with the teacher's keypoints, ``"raw"`` leaves them as they are.
        rendered: Rendered figures added to the train set (seeds 0, 1, …).
        rendered_val: Rendered figures validated on (seeds 500000, 500001, …).
    """

    train: str = ""
    val: str = ""
    train_pictures: Count = 0
    teacher: str = ""
    labels: Literal["joined", "raw"] = "joined"
    rendered: Count = 0
    rendered_val: Count = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.teacher and not self.train:
            message = "teacher is set, but train, whose labels it would join, is not"
            raise ValueError(message)
        return self


class PhaseConfig(_Strict):
    """A stretch of the schedule at one input size (square, pixels; a multiple of 32)."""

    size: Annotated[int, Field(gt=0, multiple_of=32)]
    epochs: Annotated[int, Field(gt=0)]


class AugmentConfig(_Strict):
    """Random changes of each picture.

    Attributes:
        rotation_sd: Standard deviation of the in-plane rotation, degrees.
        scale_sd: Standard deviation of the log scale.
        shift_sd: Standard deviation of the shift, as a fraction of the picture.
        flip: Probability of mirroring.
        colour: Strength of brightness, contrast and per-channel gain.
        erase: Probability of a blanked rectangle.
    """

    rotation_sd: Count = 35
    scale_sd: Fraction = 0.12
    shift_sd: Fraction = 0.03
    flip: Fraction = 0.5
    colour: Fraction = 0.25
    erase: Fraction = 0.3


class DistillConfig(_Strict):
    """How heatmaps learn from a teacher that trains along: the chain's last stage, or the branches' ensemble.

    Attributes:
        loss: ``"mse"``; ``"kl"``, of spatial softmaxes, the mean over joints; ``"okdhp-kl"``, the same divergence, in
            the proportion to the label term that OKDHP's code has.
        weight: Weight of the distillation term; 0 trains without distillation.
        keep_labels: ``"mse"`` alone: the label term keeps its whole weight; otherwise it gives the teacher's share away
            (FPD: 1 - weight). The divergences are always added to the whole label term.
        ramp_epochs: The weight grows as exp(-5 (1 - t)^2) over these first epochs.
        teacher: ``"online"`` takes the teacher's heatmaps of the same step, ``"average"`` those of the averaged
            network.
        joints: ``"all"`` joints are pulled, or the ``"labelled"`` ones.
        temperature: What heatmaps are divided by before the softmaxes; the divergence is not multiplied again.
        ensemble_weight: Of the ensemble's own label term (recipe okdhp).
    """

    loss: Literal["mse", "kl", "okdhp-kl"] = "mse"
    weight: Weight = 0.5
    keep_labels: bool = False
    ramp_epochs: Count = 5
    teacher: Literal["online", "average"] = "online"
    joints: Literal["all", "labelled"] = "all"
    temperature: Positive = 1.0
    ensemble_weight: Weight = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.loss == "mse" and not self.keep_labels and self.weight > 1:
            message = f"weight {self.weight} leaves the labels less than nothing: at most 1, or keep_labels = true"
            raise ValueError(message)
        return self


class OfflineConfig(_Strict):
    """Teachers trained before, as further targets of all heatmaps; each is added to the label term, which stays whole.

    FPD's (1 - a) labels + a teacher is a weight of a / (1 - a): 1 for its a of 0.5.

    Attributes:
        keypoints: Weight of the MSE to Gaussians at the keypoints of ``data.teacher``.
        network: A student, by name or file, that sees the same views; empty for none.
        weight: Weight of the MSE to that student's heatmaps.
    """

    keypoints: Weight = 0.0
    network: str = ""
    weight: Weight = 1.0


class TrainConfig(_Strict):
    """One training run; ``network`` replaces fields of the preset (of its configuration class)."""

    recipe: RecipeName
    preset: str
    network: dict[str, Any] = {}
    stages: Annotated[int, Field(ge=1)] | None = None
    seed: Count = 0
    batch_size: Annotated[int, Field(gt=0)] = 32
    learning_rate: Positive = 2.5e-3
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    schedule: Literal["cosine", "step"] = "cosine"
    warmup: Fraction = 0.05
    ema: Fraction = 0.999
    sigma: Positive = 1.25
    validate_every: Annotated[int, Field(gt=0)] = 2
    phases: Annotated[tuple[PhaseConfig, ...], Field(min_length=1)]
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    distill: DistillConfig = DistillConfig()
    offline: OfflineConfig = OfflineConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stages is not None and self.recipe != "lspd":
            message = f"stages is the length of lspd's chain: recipe {self.recipe} has none"
            raise ValueError(message)
        if self.offline.keypoints and not self.data.teacher:
            message = "offline.keypoints is set, but data.teacher, whose keypoints they are, is not"
            raise ValueError(message)
        return self


def read_config(path: Path) -> TrainConfig:
    """Read and check a training configuration.

    Raises:
        BadInputError: The file is missing, not TOML or has wrong fields (all are listed).
    """
    return read_toml(path, TrainConfig, what="training configuration")
