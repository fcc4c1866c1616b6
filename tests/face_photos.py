"""Drawn photos in which the random bundle's face detector finds the faces."""

import numpy as np
from PIL import Image
from test_random_face_pack import SKINS, portrait


def person(height=90, size=(128, 160), **options):
    """A photo of one face `height` pixels high; `options` are those of `portrait`."""
    return Image.fromarray(portrait(height, size=size, **options)[0][..., ::-1].copy())


def two_people():
    """A photo with a large dark face on the left and a small pale one on the right."""
    left = person(150, size=(320, 320), skin=SKINS["brown"])
    right = person(90, size=(320, 320), skin=SKINS["pale"], width=0.7)
    return Image.fromarray(np.hstack([left, right]))
