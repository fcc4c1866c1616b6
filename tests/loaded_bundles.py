"""Bundles loaded without a word, the picture that they make, and the error of one that cannot be loaded."""

import numpy as np
import pytest
from face_photos import person

from instantid.generation import generate_image
from instantid.loading import load_models
from instantid.memory_plan import PlanOptions
from instantid.request import GenerationRequest
from ip_adapter.errors import UserError

REQUEST = GenerationRequest(person(), "a person", steps=2, width=64, height=80, seed=3)


def loaded(source, base=None, **options):
    return load_models(source, base, options=PlanOptions(**options), write=lambda line: None)


def picture(models):
    return np.asarray(generate_image(models, REQUEST).images[0]).astype(int)


def refusal(source, base=None):
    """The error of a loading that is refused, as kept by a person's notebook."""
    with pytest.raises(UserError) as caught:
        loaded(source, base)
    return caught.value
