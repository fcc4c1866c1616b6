"""The judge of what was asked for: style, place, expression and dyed hair of a whole picture."""

from __future__ import annotations

from torch import Tensor, nn

from training.face_pack.layers import Residual, relu, unit
from training.face_world.palette import DYES
from training.face_world.scene import BACKGROUNDS, EXPRESSIONS, STYLES

SIDE = 128  # pixels
# Output -> names of its classes, in their order.
CLASSES: dict[str, tuple[str, ...]] = {
    "style": STYLES,
    "background": BACKGROUNDS,
    "expression": EXPRESSIONS,
    "hair": tuple(DYES),  # natural, or what it is dyed
}


class TraitClassifier(nn.Module):
    """(b, 3, 128, 128) RGB in -1 … 1 -> one (b, classes) for each of CLASSES, before the softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *unit(3, 24, 5, 2),  # 64
            nn.ReLU(),
            Residual(24, 32, 2, relu),  # 32
            Residual(32, 48, 2, relu),  # 16
            Residual(48, 48, 1, relu),
            Residual(48, 64, 2, relu),  # 8
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.answers = nn.ModuleDict({name: nn.Linear(64, len(names)) for name, names in CLASSES.items()})

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        seen = self.body(pictures)
        return tuple(self.answers[name](seen) for name in CLASSES)
