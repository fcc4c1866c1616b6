"""Teaching the detector: a few kinds of collage in turn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.face_pack.collages import Layout, collages
from training.face_pack.detector import Detector, anchors, decoded
from training.face_pack.detector_loss import detector_loss
from training.face_pack.dice import Dice
from training.face_pack.pool import Pool, PoolSize
from training.face_world import seeds


@dataclass(frozen=True)
class DetectorOptions:
    """What it sees. The layouts hold about as many pixels each, and come in turn at random."""

    pools: tuple[PoolSize, ...] = (PoolSize(128, 4096, 8), PoolSize(256, 1024, 1))
    layouts: tuple[Layout, ...] = (
        Layout(640, 1, 16),  # what insightface is asked first: a picture enlarged to 640
        Layout(640, 1, 16),
        Layout(640, 2, 16),
        Layout(640, 4, 12),
        Layout(256, 1, 80),
        Layout(256, 2, 64),
        Layout(512, 1, 24),
        Layout(384, 2, 32),
        Layout(192, 1, 128),
        Layout(128, 1, 192),
    )
    seed: int = seeds.DETECTOR
    settled: float = 0.5  # share of the course after which batch norms keep their statistics


class DetectorTask:
    """Collages in, scores, boxes and key points out.

    The collages of a step are of one layout, so a batch norm that looks at its batch knows which one, and finds itself
    elsewhere in use, where it has the averages of all: key points were drawn towards the middle of the face. Therefore
    the second half is learned with these averages.
    """

    def __init__(self, options: DetectorOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        torch.manual_seed(options.seed)
        self.network = self.product = Detector()
        self.pools = [Pool(size, options.seed, device) for size in options.pools]

    def loss(self, step: int, progress: float) -> Tensor:
        if progress >= self.options.settled:
            self.settle()
        for pool in self.pools:
            pool.go_to(step)
        dice = Dice(self.device, self.options.seed, step)
        pool = dice.host.choices(self.pools, [pool.size.count for pool in self.pools])[0]
        layout = dice.host.choice(self.options.layouts)
        with torch.autocast(self.device.type, enabled=False):
            pictures, faces = collages(pool, layout, dice)
        maps = self.network((pictures * 2 - 1).contiguous(memory_format=torch.channels_last))
        at = anchors(layout.side, layout.side, self.device)
        with torch.autocast(self.device.type, enabled=False):
            return detector_loss(decoded(maps, at), at, faces)

    def settle(self) -> None:
        """Let batch norms compute as they will in use."""
        for part in self.network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
