"""The training configuration: a TOML file, checked before any work."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lspdmobile.errors import BadInputError

__all__ = ["AugmentConfig", "DataConfig", "DistillConfig", "PhaseConfig", "TrainConfig", "read_config"]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Strict):
    """Where the pictures come from.

    Attributes:
        train, val: COCO-keypoint label files, relative to the data folder given on the command line; empty for none.
        teacher: Teacher keypoints for the train labels (17 COCO joints per person); empty for none.
        rendered: Rendered figures added to the train set (seeds 0, 1, …).
        rendered_val: Rendered figures validated on (seeds 500000, 500001, …).
    """

    train: str = ""
    val: str = ""
    teacher: str = ""
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
    """How the student learns from the chain's last stage.

    Attributes:
        loss: ``"mse"`` (FPD: (1 - weight) * MSE to labels + weight * MSE to the teacher) or ``"kl"`` (OKDHP: weight *
            KL of spatial softmaxes, added to the MSE to the labels).
        weight: Weight of the distillation term; 0 trains without distillation.
        ramp_epochs: The weight grows as exp(-5 (1 - t)^2) over these first epochs.
    """

    loss: Literal["mse", "kl"] = "mse"
    weight: Fraction = 0.5
    ramp_epochs: Count = 5


class TrainConfig(_Strict):
    """One training run; ``network`` replaces fields of the preset (``LspdConfig``)."""

    recipe: Literal["lspd"]
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


def read_config(path: Path) -> TrainConfig:
    """Read and check a training configuration.

    Raises:
        BadInputError: The file is missing, not TOML or has wrong fields (all are listed).
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        return TrainConfig.model_validate(fields)
    except FileNotFoundError:
        message = f"{path}: no such training configuration"
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"{path}: not a readable TOML file ({error})"
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        message = f"{path}: {faults}"
    raise BadInputError(message)
