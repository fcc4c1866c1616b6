"""Identification: is the person of a picture the most alike among all whom it could show?"""

import numpy as np

from instantid.evaluation.likeness import unit


def rank(embedding: np.ndarray, gallery: np.ndarray, person: int) -> int:
    """How many others are at least as alike as the right person: 0 = told from all of them.

    Args:
        embedding: (512,) raw, of the picture.
        gallery: (n, 512) templates.
        person: the row of the right one.
    """
    alike = gallery @ unit(embedding)
    return int((np.delete(alike, person) >= alike[person]).sum())
