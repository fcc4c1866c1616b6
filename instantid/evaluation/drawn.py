"""Drawn people to evaluate with: as many as wanted, each in as many pictures, and nobody's privacy touched.

They are drawn by `training.face_world`, which a checkout of the project has and an installed package has not.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from types import ModuleType
from typing import Any

from PIL import Image

from instantid.evaluation.people import Person
from instantid.messages import user_error

USUAL_COUNT = 16
MOST_PEOPLE = 1024
SIZE = 128  # pixels
AT_ONCE = 64  # pictures
LEAST_SCALE = 0.5  # height of the smallest face as a share of the picture
MOST_ASIDE = 0.08  # a large face stays whole so far from the middle


def drawn_count(text: str) -> int | None:
    """How many drawn people "drawn" or "drawn:256" asks for; None if it asks for something else.

    Raises: UserError for a number that is none.
    """
    name, colon, count = text.partition(":")
    if name != "drawn":
        return None
    if not colon:
        return USUAL_COUNT
    if not re.fullmatch(r"\d{1,6}", count) or not 2 <= int(count) <= MOST_PEOPLE:
        raise user_error("evaluate.bad_count", text=text, least=2, most=MOST_PEOPLE)
    return int(count)


def drawn_people(count: int, references: int = 1) -> tuple[list[Person], list[Image.Image]]:
    """`count` people, and as many pictures of still others that give the poses.

    A person's pictures are what people have of each other: photographs, hair in its own colour, a face that fills half
    of the picture or more; pose, expression, light, place and clothes differ from one to the next.

    Raises: UserError where the face world is not there.
    """
    world = _face_world()
    each = references + 1
    persons = world.people(range(count), world.seeds.EVALUATED_PEOPLE).repeat_interleave(each, 0)
    scenes = _closer(world.scenes(range(count * each), world.seeds.EVALUATED_SCENES))
    photograph, natural = scenes.style * 0, scenes.hair_dye * 0  # the first of their tables
    pictures = _pictures(world, persons, replace(scenes, style=photograph, hair_dye=natural))
    people = []
    for number in range(count):
        own = tuple(pictures[number * each : (number + 1) * each])
        people.append(Person(f"drawn-{number:04d}", own[:references], own[references:]))
    posing = world.people(range(count), world.seeds.EVALUATED_POSES)
    return people, _pictures(world, posing, _closer(world.scenes(range(count), world.seeds.EVALUATED_POSES)))


def _face_world() -> ModuleType:
    try:
        return importlib.import_module("training.face_world")
    except ModuleNotFoundError as error:
        raise user_error("evaluate.no_face_world") from error


def _closer(scenes: Any) -> Any:
    """The scenes with no face that is small, and each face whole."""
    centre = 0.5 + (scenes.centre - 0.5).clamp(-MOST_ASIDE, MOST_ASIDE)
    return replace(scenes, scale=scenes.scale.clamp(min=LEAST_SCALE), centre=centre)


def _pictures(world: ModuleType, persons: Any, scenes: Any) -> list[Image.Image]:
    pictures = []
    for start in range(0, len(persons), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        drawn = world.render(persons[rows], scenes[rows], SIZE).picture
        pixels = (drawn.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        pictures += [Image.fromarray(picture) for picture in pixels]
    return pictures
