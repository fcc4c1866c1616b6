"""Teaching the trait classifier."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from training.face_pack.dice import Dice
from training.face_pack.pool import LABELS, Pool, PoolSize
from training.face_pack.spoiling import spoiled
from training.face_pack.traits import SIDE, TraitClassifier
from training.face_world import seeds

COLOURS = 0.15  # how much colours are changed: they are part of a style


@dataclass(frozen=True)
class TraitOptions:
    pool: PoolSize = field(default_factory=lambda: PoolSize(SIDE, 8192, 32))
    batch: int = 256
    seed: int = seeds.TRAITS


class TraitTask:
    """Pictures in, names of what they show out."""

    def __init__(self, options: TraitOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        torch.manual_seed(options.seed)
        self.network = self.product = TraitClassifier()
        self.pool = Pool(options.pool, options.seed, device)

    def loss(self, step: int, progress: float) -> Tensor:
        self.pool.go_to(step)
        dice = Dice(self.device, self.options.seed, step)
        drawing = self.pool.draw(self.options.batch, dice)
        with torch.autocast(self.device.type, enabled=False):
            pictures = spoiled(drawing.pictures, dice, COLOURS) * 2 - 1
        answers = self.network(pictures.contiguous(memory_format=torch.channels_last))
        # CLASSES and LABELS are in the same order.
        return sum(F.cross_entropy(said.float(), drawing.labels[name]) for said, name in zip(answers, LABELS))
