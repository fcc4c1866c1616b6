"""What an evaluation does, from the options of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instantid.evaluation.drawn import drawn_count, drawn_people
from instantid.evaluation.people import Person, people_in, poses_in
from instantid.evaluation.prompts import DEFAULT_PROMPTS, Prompt, read_prompts
from instantid.evaluation.variants import Variant, check_variants, parse_variants
from instantid.messages import user_error
from instantid.request import MAX_SEED

if TYPE_CHECKING:
    import argparse

    from instantid.bundle import Bundle
    from instantid.images import ImageSource

MOST_PICTURES = 64  # of a person in a row
OWN_POSES = "own"  # in the place of a folder


@dataclass(frozen=True)
class Plan:
    """Every row has the same people, poses, prompts and seeds."""

    people: Sequence[Person]
    poses: Sequence[ImageSource]  # photos; none = the reference photos of the other people
    own_poses: bool  # a person takes the poses of their own further photos instead
    prompts: Sequence[Prompt]
    variants: Sequence[Variant]  # the rows
    fields: dict[str, Any]  # of the request, in every row that does not vary them
    count: int  # pictures of each person in a row
    seed: int  # of the first picture; the next have the next ones
    origin: str  # where the people are from, in the words of the person who asked


@dataclass(frozen=True)
class Case:
    """One picture of a row."""

    person: int
    prompt: int
    pose: int  # which of the poses, of the people, or of the person's own further photos
    seed: int


def plan_from(arguments: argparse.Namespace) -> Plan:
    """The plan that the options of `evaluate` describe; where they name no people, `people` is empty.

    Raises: UserError, before anything is loaded, for what cannot be.
    """
    variants = parse_variants(arguments.vary or [])
    fields = _fields(arguments)
    check_variants(variants, fields)
    if not 1 <= arguments.count <= MOST_PICTURES:
        raise user_error("request.out_of_range", field="count", value=arguments.count, least=1, most=MOST_PICTURES)
    if not 0 <= arguments.seed <= MAX_SEED:
        raise user_error("request.bad_seed", value=arguments.seed, most=MAX_SEED)
    references = max(variant.references for variant in variants)
    people: list[Person] = []
    poses: Sequence[ImageSource] = ()
    origin = arguments.people or ""
    if drawn := drawn_count(origin):
        people, poses = drawn_people(drawn, references)
    elif origin:
        people = people_in(Path(origin).expanduser(), references)
    own_poses = arguments.poses == OWN_POSES
    if own_poses:
        poses = ()
    elif arguments.poses:
        poses = poses_in(Path(arguments.poses).expanduser())
    prompts = read_prompts(arguments.prompts) if arguments.prompts else DEFAULT_PROMPTS
    return Plan(people, poses, own_poses, prompts, variants, fields, arguments.count, arguments.seed, origin)


def examples_of(bundle: Bundle, plan: Plan) -> list[Person]:
    """The people of the portraits that a bundle brings. Raises: UserError if it brings none."""
    if not bundle.examples():
        raise user_error("evaluate.no_people", folder=bundle.folder)
    return people_in(bundle.folder / "examples", max(variant.references for variant in plan.variants))


def cases_of(plan: Plan, people: Sequence[Person], poses: int) -> list[Case]:
    """`plan.count` pictures of each of `people`, prompts and poses in turn.

    Args:
        poses: how many pose photos there are.
    """
    cases = []
    for person, whom in enumerate(people):
        for number in range(plan.count):
            index = person * plan.count + number
            if plan.own_poses:
                pose = number % len(whom.others)
            elif poses:
                pose = index % poses
            else:
                pose = (person + 1 + number % (len(people) - 1)) % len(people)
            seed = (plan.seed + index) % (MAX_SEED + 1)
            cases.append(Case(person, index % len(plan.prompts), pose, seed))
    return cases


def _fields(arguments: argparse.Namespace) -> dict[str, Any]:
    fields: dict[str, Any] = {} if arguments.steps is None else {"steps": arguments.steps}
    if arguments.size:
        if len(arguments.size) > 2:
            raise user_error("evaluate.bad_size", size=" ".join(map(str, arguments.size)))
        fields |= {"width": arguments.size[0], "height": arguments.size[-1]}
    return fields
