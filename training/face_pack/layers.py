"""What the networks of the face pack are built from."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval


def unit(inner: int, outer: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution and batch norm, to be followed by an activation."""
    padding = kernel // 2 * dilation
    return nn.Sequential(nn.Conv2d(inner, outer, kernel, stride, padding, dilation, bias=False), nn.BatchNorm2d(outer))


def relu(channels: int) -> nn.ReLU:
    """The activation that processors are fastest with, made as those with weights are."""
    return nn.ReLU()


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut: (b, inner, h, w) -> (b, outer, h / stride, w / stride).

    Args: dilation: places between those that a convolution reads.
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        stride: int = 1,
        activation: Callable[[int], nn.Module] = nn.PReLU,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.first = unit(inner, outer, 3, stride, dilation)
        self.second = unit(outer, outer, dilation=dilation)
        self.between, self.after = activation(outer), activation(outer)
        self.shortcut = nn.Identity() if inner == outer and stride == 1 else unit(inner, outer, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.second(self.between(self.first(x))) + self.shortcut(x))


class Bottleneck(nn.Module):
    """Narrowed, filtered, widened again, beside a shortcut; nothing after the sum (He et al. 2016)."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        narrow = outer // 2
        self.path = nn.Sequential(
            *unit(inner, narrow, 1), nn.SiLU(), *unit(narrow, narrow, 3, stride), nn.SiLU(), *unit(narrow, outer, 1)
        )
        self.shortcut = nn.Identity() if inner == outer and stride == 1 else unit(inner, outer, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.path(x) + self.shortcut(x)


class WeightedPlaces(nn.Module):
    """Each channel's places summed with weights of its own: (b, channels, side, side) -> (b, channels)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, channels, side, side), 1 / side**2))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).sum((2, 3))


def folded(network: nn.Module) -> nn.Module:
    """A copy for inference, with every batch norm inside the layer before it."""
    network = copy.deepcopy(network).eval()
    for part in network.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for i in range(len(part) - 1):
            if isinstance(part[i], nn.Conv2d) and isinstance(part[i + 1], nn.BatchNorm2d):
                part[i], part[i + 1] = fuse_conv_bn_eval(part[i], part[i + 1]), nn.Identity()
            elif isinstance(part[i], nn.Linear) and isinstance(part[i + 1], nn.BatchNorm1d):
                part[i], part[i + 1] = fuse_linear_bn_eval(part[i], part[i + 1]), nn.Identity()
    return network
