"""Teaching a recogniser to tell people apart, whatever the pose, the expression and the style.

Source: Wang et al. 2018, "CosFace: Large Margin Cosine Loss for Deep Face Recognition".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.face_pack.alignment import aligned
from training.face_pack.dice import Dice
from training.face_pack.pool import Pool, PoolSize
from training.face_pack.recognisers import EMBEDDING_WIDTH, Recogniser, Scorer
from training.face_pack.spoiling import spoiled
from training.face_world import seeds

PEOPLE = 8192
COLOURS = 0.4  # how much colours are changed: skin, eyes and hair tell people apart
POINT_ERROR = 0.03  # of the distance of the eyes: what a detector leaves
RAMP = 0.25  # share of the course in which the margin grows


@dataclass(frozen=True)
class RecogniserOptions:
    """Whom it sees, and how strictly it is judged."""

    network: type[nn.Module]
    seed: int  # another seed is another population
    pools: tuple[PoolSize, ...] = (PoolSize(128, 16384, 16, PEOPLE), PoolSize(256, 1024, 1, PEOPLE))
    batches: tuple[int, ...] = (448, 64)  # pictures from each pool at each step
    people: int = PEOPLE
    margin: float = 0.35
    scale: float = 32.0


RECOGNISER = RecogniserOptions(Recogniser, seed=seeds.RECOGNISER)
SCORER = RecogniserOptions(Scorer, seed=seeds.SCORER)


def few_people(options: RecogniserOptions) -> RecogniserOptions:
    """The same for four people, without a margin: it can be learned in a few steps."""
    return replace(options, pools=(PoolSize(64, 8, 0, 4),), batches=(6,), people=4, margin=0.0)


class RecogniserTask:
    """Crops in, the person's number out; what is kept is the embedding before the last layer."""

    def __init__(self, options: RecogniserOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        torch.manual_seed(options.seed)
        self.product = options.network()
        self.network = nn.ModuleDict({"recogniser": self.product, "faces": _Faces(options.people)})
        self.pools = [Pool(size, options.seed, device) for size in options.pools]

    def loss(self, step: int, progress: float) -> Tensor:
        crops, persons = self.batch(step)
        embeddings = self.product((crops * 2 - 1).contiguous(memory_format=torch.channels_last))
        margin = self.options.margin * min(progress / RAMP, 1.0)
        with torch.autocast(self.device.type, enabled=False):
            likeness = F.normalize(embeddings.float()) @ F.normalize(self.network["faces"].weight).T
            harder = likeness - margin * F.one_hot(persons, self.options.people)
            return F.cross_entropy(self.options.scale * harder, persons)

    @torch.no_grad()
    @torch.autocast("cuda", enabled=False)
    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Crops (b, 3, 112, 112) in 0 … 1 and whose they are (b,)."""
        dice = Dice(self.device, self.options.seed, step)
        crops, persons = [], []
        for pool, count in zip(self.pools, self.options.batches):
            pool.go_to(step)
            drawing = pool.draw(count, dice)
            points = drawing.key_points
            eyes = torch.linalg.vector_norm(points[:, 1] - points[:, 0], dim=1)[:, None, None]
            errors = dice.normal(count, 5, 2) + dice.normal(count, 1, 2)
            crops.append(aligned(spoiled(drawing.pictures, dice, COLOURS), points + POINT_ERROR * eyes * errors))
            persons.append(drawing.persons)
        return torch.cat(crops), torch.cat(persons)


class _Faces(nn.Module):
    """The direction of each person of training; short at first, so that it turns quickly."""

    def __init__(self, people: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(people, EMBEDDING_WIDTH) * 0.05)
