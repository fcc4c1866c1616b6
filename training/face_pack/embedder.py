"""Embeddings of rendered pictures with the trained recogniser, on the device where they are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from training.face_pack.alignment import aligned
from training.face_pack.layers import folded
from training.face_pack.recognisers import Recogniser
from training.face_pack.weights import load_weights

AT_ONCE = 512  # crops in one pass


class Embedder:
    """What insightface makes of a picture and key points, without insightface."""

    def __init__(self, recogniser: Recogniser) -> None:
        """`recogniser`: trained; it is copied, and stays on its device."""
        self.network = folded(recogniser).requires_grad_(False)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Embedder:
        """From the `recogniser.safetensors` that training wrote. Raises: UserError if the file is another one."""
        return cls(load_weights(Recogniser(), path).to(device))

    @torch.no_grad()
    @torch.autocast("cuda", enabled=False)  # whoever asks gets the same numbers
    def embed(self, pictures: Tensor, key_points: Tensor) -> Tensor:
        """Raw embeddings (b, 512) float32, about 20 long, of one face in each picture.

        Args:
            pictures: (b, 3, h, w) RGB in 0 … 1, on the recogniser's device.
            key_points: (b, 5, 2) in pixels, as detectors and the face world give them.
        """
        parts = zip(pictures.split(AT_ONCE), key_points.split(AT_ONCE))
        return torch.cat([self.network(aligned(some, points) * 2 - 1).float() for some, points in parts])
