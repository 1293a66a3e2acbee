"""Batches: random affine, mirroring, colour and erasing, all drawn from one generator per step."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lspdmobile.preprocess import PreprocessContract
from lspdmobile.skeleton import Skeleton
from lspdmobile.train.config import AugmentConfig

__all__ = ["augment", "gaussian_heatmaps"]


def augment(
    pixels: Tensor,
    points: Tensor,
    weights: Tensor,
    *,
    size: int,
    contract: PreprocessContract,
    skeleton: Skeleton,
    config: AugmentConfig,
    generator: torch.Generator,
    margin: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one random view of each crop.

    Args:
        pixels: uint8 ``[N, S, S, 3]`` RGB.
        points: ``[N, K, 2]`` in crop pixels, or several such sets after one another: ``[N, S * K, 2]``.
        weights: ``[N, K]``, or ``[N, S * K]``.
        size: Rows and columns of the result.
        contract: Gives mean and std; outside the crop the input is 0, the mean colour.
        skeleton: Gives the mirror pairs.
        config: Strength of each change.
        generator: Source of every random number.
        margin: How many times wider and higher the crop is than an unchanged view of it.

    Returns:
        Inputs ``[N, 3, size, size]`` float32, points in input pixels, and weights (0 for joints that left the view).
    """
    count, stored = pixels.shape[0], pixels.shape[1]
    draw = _Draw(count, generator)
    flipped = draw.uniform() < config.flip
    matrix = _matrix(draw, config, flipped) / margin
    shift = config.shift_sd * 2 * draw.normal(2) / margin
    theta = torch.cat((matrix, shift[..., None]), dim=2).to(pixels.device)
    mean = 255 * torch.tensor(contract.mean, device=pixels.device).view(1, 3, 1, 1)
    std = 255 * torch.tensor(contract.std, device=pixels.device).view(1, 3, 1, 1)
    centred = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).sub_(mean)
    grid = _grid(theta, size)
    view = F.grid_sample(centred, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    inputs = _colour(view, mean, std, draw, config.colour)
    inputs = _erase(inputs, draw, config.erase)
    device = points.device
    moved = _move(points, matrix.to(device), shift.to(device), scale=(2 / stored, size / 2))
    points, weights = _mirrored(moved, weights, flipped.to(device), skeleton)
    inside = ((points >= 0) & (points < size)).all(dim=2)
    return inputs, points, weights * inside


def gaussian_heatmaps(points: Tensor, *, size: tuple[int, int], stride: int, sigma: float) -> Tensor:
    """Unit-peak Gaussians at sub-cell positions.

    Args:
        points: ``[N, K, 2]`` in input pixels.
        size: Rows and columns of the heatmaps.
        stride: Input pixels per cell; cell j's centre is ``(j + 0.5) * stride``.
        sigma: Standard deviation in cells.

    Returns:
        float32 ``[N, K, rows, columns]``.
    """
    x = (torch.arange(size[1], device=points.device) + 0.5) - points[..., 0:1] / stride
    y = (torch.arange(size[0], device=points.device) + 0.5) - points[..., 1:2] / stride
    scale = -0.5 / sigma**2
    return torch.exp(scale * y**2)[..., :, None] * torch.exp(scale * x**2)[..., None, :]


class _Draw:
    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.generator)


def _matrix(draw: _Draw, config: AugmentConfig, flipped: Tensor) -> Tensor:
    """Map from the result's to the crop's coordinates, both -1..1, ``[N, 2, 2]``."""
    angle = draw.normal().clamp(-3, 3) * config.rotation_sd * math.pi / 180
    zoom = torch.exp(draw.normal().clamp(-2.5, 2.5) * config.scale_sd)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    matrix = torch.stack((torch.stack((cos, -sin), 1), torch.stack((sin, cos), 1)), 1)
    matrix[:, :, 0] = torch.where(flipped[:, None], -matrix[:, :, 0], matrix[:, :, 0])
    return matrix


def _grid(theta: Tensor, size: int) -> Tensor:
    """Give ``[N, size, size, 2]`` points to sample by ``[N, 2, 3]`` maps (``affine_grid`` without a product)."""
    line = (2 * torch.arange(size, device=theta.device) + 1) / size - 1
    across = theta[:, None, None, :, 0] * line[:, None]
    down = theta[:, None, None, :, 1] * line[:, None, None] + theta[:, None, None, :, 2]
    return across + down


def _colour(view: Tensor, mean: Tensor, std: Tensor, draw: _Draw, strength: float) -> Tensor:
    """Change contrast, per-channel gain, brightness and saturation of pixels relative to the mean colour; over std."""
    device = view.device
    contrast = (1 + strength * draw.normal(1, 1, 1)).clamp(0.4, 1.8)
    gain = (1 + 0.4 * strength * draw.normal(3, 1, 1)).clamp(0.5, 1.5)
    bright = 0.4 * strength * draw.normal(1, 1, 1) + 0.1 * strength * draw.normal(3, 1, 1)
    grey = (draw.uniform() < 0.4 * strength).to(device)
    changed = torch.addcmul(255 * bright.to(device) / std, view, (contrast * gain).to(device) / std)
    changed[grey] = (changed[grey] * std).mean(dim=1, keepdim=True) / std
    return changed.clamp_(-mean / std, (255 - mean) / std)


def _erase(inputs: Tensor, draw: _Draw, probability: float) -> Tensor:
    size = inputs.shape[-1]
    side = (0.1 + 0.25 * draw.uniform(2)) * size
    corner = draw.uniform(2) * (size - side)
    chosen = draw.uniform() < probability
    line = torch.arange(size)
    rows = (line >= corner[:, :1]) & (line < (corner + side)[:, :1])
    columns = (line >= corner[:, 1:]) & (line < (corner + side)[:, 1:])
    hole = (rows[:, None, :, None] & columns[:, None, None, :]) & chosen[:, None, None, None]
    return inputs.masked_fill_(hole.to(inputs.device), 0.0)


def _move(points: Tensor, matrix: Tensor, shift: Tensor, *, scale: tuple[float, float]) -> Tensor:
    """Map crop pixels ``[N, K, 2]`` to result pixels; ``scale``: crop pixels to 0..2, and 0..2 to result pixels."""
    unit = points * scale[0] - 1
    moved: Tensor = torch.linalg.solve(matrix, (unit - shift[:, None]).transpose(1, 2)).transpose(1, 2)
    return (moved + 1) * scale[1]


def _mirrored(points: Tensor, weights: Tensor, flipped: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Exchange left and right joints of the mirrored pictures, ``flipped [N]``, in every set of joints."""
    sets = points.shape[1] // skeleton.count
    flip = torch.tensor([s * skeleton.count + j for s in range(sets) for j in skeleton.flip], device=points.device)
    return (
        torch.where(flipped[:, None, None], points[:, flip], points),
        torch.where(flipped[:, None], weights[:, flip], weights),
    )
