"""Likeness: the cosine of two face embeddings, -1 … 1."""

from collections.abc import Sequence

import numpy as np


def unit(embedding: np.ndarray) -> np.ndarray:
    """The embedding at length 1."""
    return embedding / np.linalg.norm(embedding)


def template(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """One embedding (512,) of length 1 for several photos of a person: the direction between theirs."""
    return unit(np.mean([unit(embedding) for embedding in embeddings], axis=0))


def likeness(embedding: np.ndarray, of: np.ndarray) -> float:
    """Cosine of a raw embedding (512,) with a template."""
    return float(unit(embedding) @ of)
