"""Two recognisers in ArcFace's form: aligned crop -> embedding. One conditions pictures, the other one judges them.

They share nothing: not the architecture, not the people they are trained on, not the random numbers.
"""

from __future__ import annotations

from torch import Tensor, nn

from training.face_pack.alignment import CROP
from training.face_pack.layers import Bottleneck, Residual, WeightedPlaces, unit

EMBEDDING_WIDTH = 512
LAST_SIDE = CROP // 16  # of the last map


def _embedding(inner: int) -> nn.Sequential:
    """The last layer. Its batch norm does not scale, so raw embeddings are about sqrt(512) long, as ArcFace's are."""
    norm = nn.BatchNorm1d(EMBEDDING_WIDTH)
    norm.weight.requires_grad_(False)
    return nn.Sequential(nn.Linear(inner, EMBEDDING_WIDTH, bias=False), norm)


class Recogniser(nn.Module):
    """Residual convolutions and one linear layer over all places: (b, 3, 112, 112) in -1 … 1 -> (b, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*unit(3, 32, 3, 2), nn.PReLU(32))  # 56
        self.blocks = nn.Sequential(
            Residual(32, 32),
            Residual(32, 64, 2),  # 28
            Residual(64, 64),
            Residual(64, 96, 2),  # 14
            Residual(96, 96),
            Residual(96, 96),
            Residual(96, 128, 2),  # 7
            Residual(128, 128),
        )
        self.narrow = nn.Sequential(*unit(128, 16, 1), nn.PReLU(16))
        self.embedding = _embedding(16 * LAST_SIDE**2)

    def forward(self, crops: Tensor) -> Tensor:
        return self.embedding(self.narrow(self.blocks(self.stem(crops))).flatten(1))


class Scorer(nn.Module):
    """Bottlenecks and a weight for each channel's places: (b, 3, 112, 112) in -1 … 1 -> (b, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*unit(3, 48, 5, 2), nn.SiLU())  # 56
        self.blocks = nn.Sequential(
            Bottleneck(48, 64),
            Bottleneck(64, 112, 2),  # 28
            *(Bottleneck(112, 112) for _ in range(3)),
            Bottleneck(112, 192, 2),  # 14
            *(Bottleneck(192, 192) for _ in range(4)),
            Bottleneck(192, 256, 2),  # 7
            Bottleneck(256, 256),
        )
        self.widen = nn.Sequential(*unit(256, 384, 1), nn.SiLU())
        self.places = WeightedPlaces(384, LAST_SIDE)
        self.embedding = _embedding(384)

    def forward(self, crops: Tensor) -> Tensor:
        return self.embedding(self.places(self.widen(self.blocks(self.stem(crops)))))
