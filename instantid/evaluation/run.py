"""The pictures are made, one row after the other, and each is measured and kept as soon as it is there.

A picture's file is named by everything that decides it. A run that was killed finds what it had made, and rows that ask
for the same share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from instantid.bundle import Bundle
from instantid.evaluation.judge import Judge, Result, read_result, write_result
from instantid.evaluation.likeness import template
from instantid.evaluation.people import Person
from instantid.evaluation.plan import Case, Plan, cases_of
from instantid.evaluation.variants import Loading, Variant
from instantid.generation import generate_image
from instantid.images import ImageSource, open_photo
from instantid.loading import Models
from instantid.messages import user_error
from instantid.request import GenerationRequest

Load = Callable[[Loading], Models]
OnPicture = Callable[[int, int], None]
"""Told how many pictures of how many are there."""


@dataclass(frozen=True, eq=False)
class Subjects:
    """The people and poses in whose photos a face was found, and what pictures are compared with."""

    people: Sequence[Person]
    poses: Sequence[ImageSource]
    own_poses: bool
    gallery: np.ndarray  # (n, 512), a template of each person
    left_out: Sequence[str]  # people and poses without a face
    digests: dict[int, str]  # id() of a photo as the plan has it -> digest of its pixels

    def pose(self, case: Case) -> ImageSource:
        """The photo that gives it."""
        if self.own_poses:
            return self.people[case.person].others[case.pose]
        return self.poses[case.pose] if self.poses else self.people[case.pose].references[0]


@dataclass(frozen=True)
class Row:
    """One row as it was made."""

    variant: Variant
    cases: Sequence[Case]
    files: Sequence[Path]  # a picture for each case
    results: Sequence[Result]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that a report tells."""

    plan: Plan
    subjects: Subjects
    bundle: Bundle
    has_own_recogniser: bool
    classes: dict[str, list[str]]  # trait -> classes that the classifier knows
    device: str
    rows: list[Row]  # as many as are done


def evaluate(plan: Plan, load: Load, output: Path, on_picture: OnPicture | None = None) -> Iterator[Evaluation]:
    """Makes every row; gives the evaluation again after each one.

    Args:
        load: gives models loaded as a row wants them; they are released when another row wants others.
        output: the pictures go to `output/pictures`; what is there already is not made again.

    Raises: UserError if fewer than two people can be seen in their photos; what `generate_image` raises; OSError.
    """
    (output / "pictures").mkdir(parents=True, exist_ok=True)
    evaluation = None
    for loading, variants in groupby(plan.variants, lambda variant: variant.loading):
        models = load(loading)
        try:
            judge = Judge(models.bundle, models.faces)
            evaluation = evaluation or _begun(plan, models, judge)
            for variant in variants:
                maker = _Maker(models, judge, evaluation.subjects, variant, plan, output / "pictures")
                evaluation.rows.append(maker.row(on_picture or (lambda done, total: None)))
                yield evaluation
        finally:
            models.release()


def _begun(plan: Plan, models: Models, judge: Judge) -> Evaluation:
    device = models.hardware.name if models.plan.device == models.hardware.device else models.plan.device
    subjects = _subjects(plan, judge)
    return Evaluation(plan, subjects, models.bundle, judge.has_own_recogniser, judge.classes, device, [])


def _subjects(plan: Plan, judge: Judge) -> Subjects:
    """Reads every photo once: what cannot be read is said before the first picture is made."""
    left_out: list[str] = []
    digests: dict[int, str] = {}
    people, gallery, poses = [], [], []

    def embedding(source: ImageSource, name: str) -> np.ndarray | None:
        photo = open_photo(source)
        digests[id(source)] = hashlib.blake2b(photo.tobytes(), digest_size=16).hexdigest()
        face = judge.face(photo)
        if face is None:
            left_out.append(source.name if isinstance(source, Path) else name)
        return None if face is None else judge.embedding(photo, face)

    for person in plan.people:
        of_references = [embedding(photo, person.name) for photo in person.references]
        of_others = of_references
        if person.others != person.references:
            of_others = [embedding(photo, person.name) for photo in person.others]
        seen = [(photo, one) for photo, one in zip(person.others, of_others) if one is not None]
        if seen and all(one is not None for one in of_references):
            others, embeddings = zip(*seen)
            people.append(replace(person, others=others))
            gallery.append(template(embeddings))
    for number, pose in enumerate(plan.poses):
        if embedding(pose, f"pose-{number:04d}") is not None:
            poses.append(pose)
    if len(people) < 2:
        raise user_error("evaluate.too_few_people", count=len(people), given=len(plan.people))
    if plan.poses and not poses:
        raise user_error("evaluate.no_pose", count=len(plan.poses))
    return Subjects(people, poses, plan.own_poses, np.stack(gallery), left_out, digests)


class _Maker:
    """Makes one row."""

    def __init__(
        self, models: Models, judge: Judge, subjects: Subjects, variant: Variant, plan: Plan, folder: Path
    ) -> None:
        self.models, self.judge, self.subjects, self.variant, self.plan = models, judge, subjects, variant, plan
        self.folder = folder
        self.is_first = True
        self.surroundings = [
            _fingerprint(models.bundle),
            [models.plan.device, models.plan.precision, models.plan.storage, variant.loading.heads],
            hashlib.blake2b(subjects.gallery.tobytes(), digest_size=16).hexdigest(),
        ]

    def row(self, on_picture: OnPicture) -> Row:
        cases = cases_of(self.plan, self.subjects.people, len(self.subjects.poses))
        files, results = [], []
        for done, case in enumerate(cases):
            on_picture(done, len(cases))
            file, result = self.picture(case)
            files.append(file)
            results.append(result)
        on_picture(len(cases), len(cases))
        return Row(self.variant, cases, files, results)

    def picture(self, case: Case) -> tuple[Path, Result]:
        request = self.request(case).checked()
        file = self.folder / f"{self.key(request)}.png"
        result = read_result(file)
        if result is None:
            made = generate_image(self.models, request)
            measured = self.judge.measure(made.images[0], made.key_points, self.subjects.gallery, case.person)
            result = Result(
                **measured,
                seconds=made.seconds["total"],
                is_first=self.is_first,
                peak_vram_gib=made.peak_vram_gib,
                notes=[[note.key, note.facts] for note in made.notes],
            )
            write_result(file, made.images[0], result)
            self.is_first = False
        return file, result

    def request(self, case: Case) -> GenerationRequest:
        photo, *more = self.subjects.people[case.person].references[: self.variant.references]
        return GenerationRequest(
            face=photo,
            more_faces=tuple(more),
            pose=self.subjects.pose(case),
            prompt=self.plan.prompts[case.prompt].text,
            seed=case.seed,
            **(self.plan.fields | self.variant.fields),
        )

    def key(self, request: GenerationRequest) -> str:
        """A name for the picture, of everything that decides it and its result."""
        photos = [self.subjects.digests[id(photo)] for photo in (request.face, request.pose, *request.more_faces)]
        whole: list[Any] = [*self.surroundings, photos, request.settings()]
        return hashlib.blake2b(json.dumps(whole, sort_keys=True).encode(), digest_size=12).hexdigest()


def _fingerprint(bundle: Bundle) -> str:
    """Tells this bundle from another and from itself once a file of it is changed, without reading gigabytes."""
    places = (bundle.base, bundle.identitynet, bundle.adapter, bundle.face_pack, bundle.folder / "scoring")
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()
