"""Nobody who is trained on is measured, or shown as an example."""

import itertools

import pytest

from training.face_world import people, scenes, seeds

TRAINED_PEOPLE = (seeds.DETECTOR, seeds.RECOGNISER, seeds.SCORER, seeds.TRAITS, seeds.BUNDLE_PEOPLE)
MANY = 20_000


@pytest.fixture(scope="module")
def trained():
    """The hashes of the first people of each training stream."""
    return {seed: set(map(tuple, people(range(MANY), seed).tolist())) for seed in TRAINED_PEOPLE}


@pytest.mark.parametrize("held_out", seeds.HELD_OUT)
def test_no_training_meets_people_who_are_held_out(trained, held_out):
    shown = {tuple(person) for person in people([*range(1024), *range(10_000, 10_100)], held_out).tolist()}
    assert not any(shown & met for met in trained.values())


def test_no_two_seeds_are_the_same():
    both = [*seeds.TRAINED, *seeds.HELD_OUT]
    assert len(set(both)) == len(both)


def test_each_seed_has_scenes_of_its_own():
    first = [tuple(scenes(range(64), seed).scale.tolist()) for seed in (*seeds.TRAINED, *seeds.HELD_OUT)]
    assert all(one != other for one, other in itertools.combinations(first, 2))
