"""A second loss of the identity: are the predicted faces those of the people whose embeddings were given?

The error of the noise prediction hardly notices whose face it is: features are a few of its many numbers. Seen through
the recogniser they are nearly all that counts. This is not part of what the authors of InstantID published.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from training.data import Batch
from training.face_pack.alignment import aligned

LATEST = 800  # timestep: above it next to nothing of a picture can be told


@dataclass(frozen=True)
class FaceLikeness:
    """1 - cosine of the embeddings of predicted faces and of the people they are to be, on the average.

    Attributes:
        vae: decodes predictions; frozen.
        network: aligned crops (b, 3, 112, 112) in -1 … 1 -> embeddings (b, 512); frozen. Not the one that judges.
        weight: of the loss, beside that of the noise prediction.
        count: how many of a batch's examples are decoded, the first ones: decoding takes time and memory.
    """

    vae: AutoencoderKL
    network: nn.Module
    weight: float
    count: int

    def __call__(self, clean: Tensor, timesteps: Tensor, batch: Batch, without: Tensor) -> Tensor:
        """The weighted loss.

        Args:
            clean: (b, c, h, w) latents without noise, as the model sees them at `timesteps` (b,).
            batch: with its faces' key points.
            without: (b,) examples that were not told who it is, or where; they do not count.
        """
        if batch.face_points is None:
            raise ValueError("the likeness of faces needs batches with face_points")
        clean, timesteps, without = clean[: self.count], timesteps[: self.count], without[: self.count]
        points = batch.face_points[: self.count].to(clean.device)
        wanted = batch.embeddings[: self.count].to(clean.device)
        pictures = (self.vae.decode(clean / self.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
        alike = F.cosine_similarity(self.network(aligned(pictures, points) * 2 - 1).float(), wanted)
        counts = (~without & (timesteps <= LATEST)).float()
        return self.weight * ((1 - alike) * counts).sum() / counts.sum().clamp(min=1)
