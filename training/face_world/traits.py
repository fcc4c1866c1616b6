"""Who a person is: a vector of traits in 0 … 1, drawn from a number, and what each trait means on a face.

Lengths are in head units: the face's centre is 0, its chin about +1 and its hairline about -0.75 (y grows downwards).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from instantid.messages import user_error
from training.face_world.chance import as_indices, uniform
from training.face_world.constants import constant

HAIR_STYLES = (
    "bald",
    "buzz cut",
    "side parting",
    "quiff",
    "short curls",
    "afro",
    "bob with a fringe",
    "long straight",
    "long wavy",
    "bun",
    "ponytail",
    "spikes",
)
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
GLASSES = ("none", "round", "square")
MOLES = ("none", "left cheek", "right cheek", "above the lip", "chin")
EARRINGS = ("none", "studs", "hoops")


@dataclass(frozen=True)
class Trait:
    """One trait: what it is, and the range (or the choices) that 0 … 1 stands for."""

    meaning: str
    least: float = 0.0
    most: float = 1.0
    choices: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()  # how often each choice is met; equal shares where empty

    def bounds(self) -> tuple[float, ...]:
        """Where in 0 … 1 one choice ends and the next begins, choices - 1 of them."""
        shares = torch.tensor(self.shares or (1.0,) * len(self.choices))
        return tuple((shares / shares.sum()).cumsum(0)[:-1].tolist())


TRAITS: dict[str, Trait] = {
    "face_width": Trait("half the width of the face at the cheeks", 0.66, 0.83),
    "face_height": Trait("from the centre of the face to the chin", 0.90, 1.07),
    "jaw": Trait("how square the jaw is", 1.75, 2.7),
    "chin": Trait("how far the face narrows towards the chin", 0.30, 0.02),
    "skin_tone": Trait("from pale to dark"),
    "undertone": Trait("from rosy to golden"),
    "eye_colour": Trait("through dark brown, hazel, green, blue and grey"),
    "eye_spacing": Trait("from the middle of the face to the middle of an eye", 0.28, 0.365),
    "eye_size": Trait("half the width of an eye", 0.145, 0.205),
    "eye_tilt": Trait("how far the outer corners rise, radians", -0.16, 0.24),
    "eye_height": Trait("where the eyes are", 0.05, -0.10),
    "brow_thickness": Trait("half the thickness of a brow", 0.018, 0.058),
    "brow_height": Trait("from eye to brow", 0.20, 0.30),
    "brow_arch": Trait("from straight to arched", 0.0, 0.11),
    "brow_colour": Trait("from darker than the hair to lighter", 0.45, 1.05),
    "nose_length": Trait("from eyes to the tip of the nose", 0.30, 0.46),
    "nose_width": Trait("half the width of the nose", 0.085, 0.17),
    "mouth_width": Trait("half the width of the closed mouth", 0.20, 0.31),
    "lip_fullness": Trait("thickness of the lips", 0.035, 0.09),
    "mouth_height": Trait("from nose to mouth", 0.19, 0.27),
    "ear_size": Trait("half the height of an ear", 0.15, 0.26),
    "hair_style": Trait(
        "how the hair is worn", choices=HAIR_STYLES, shares=(0.7, 0.7, 1.2, 1, 1, 0.8, 1.1, 1.2, 1.2, 1, 1, 0.8)
    ),
    "hair_colour": Trait("through black, brown, auburn, red, blond, grey and white"),
    "hair_parting": Trait("where the hair is parted, and how much of it there is", -1.0, 1.0),
    "beard": Trait("what grows on the chin", choices=BEARDS, shares=(6, 1, 1, 1, 1.4)),
    "freckles": Trait("how many; none below two thirds", -2.0, 1.0),
    "glasses": Trait("what is worn before the eyes", choices=GLASSES, shares=(3.4, 1, 1)),
    "age_lines": Trait("how deep; none below two thirds", -2.0, 1.0),
    "mole": Trait("where", choices=MOLES, shares=(2.5, 1, 1, 1, 0.6)),
    "earring": Trait("what hangs from the ears", choices=EARRINGS, shares=(2.4, 1, 1)),
}
NAMES = tuple(TRAITS)
LONG_HAIR = tuple(HAIR_STYLES.index(name) for name in ("bob with a fringe", "long straight", "long wavy", "bun"))


def people(indices: Iterable[int] | Tensor, seed: int = 0) -> Tensor:
    """The people of these numbers, (n, T) float32 in 0 … 1, one column per entry of `TRAITS`.

    Args: indices: n whole numbers, 0 … 2**40 - 1; seed: another seed is another population.
    Raises: UserError for indices that are none.
    """
    indices = as_indices(indices)
    persons = uniform(indices, seed, "people", len(TRAITS))
    # Dark eyes are commoner with dark skin; any colour is met with any.
    persons[:, NAMES.index("eye_colour")] *= 1 - 0.55 * persons[:, NAMES.index("skin_tone")]
    # Beards with long hair are rare, as they are outside: most such people lose theirs to the first choice.
    beard, shave = NAMES.index("beard"), uniform(indices, seed, "shave", 1)[:, 0]
    long_hair = torch.isin(choice(persons, "hair_style"), constant(LONG_HAIR, persons.device))
    shaven = long_hair & (shave < 0.85)
    persons[:, beard] = torch.where(shaven, persons[:, beard] * 0.5, persons[:, beard])
    return persons


def value(persons: Tensor, name: str) -> Tensor:
    """A trait on its own scale, (n, 1, 1), ready to meet fields of pixels."""
    trait = TRAITS[name]
    least, most = constant((trait.least, trait.most), persons.device)
    return torch.lerp(least, most, persons[:, NAMES.index(name)])[:, None, None]


def choice(persons: Tensor, name: str) -> Tensor:
    """Which of its choices a trait has taken, int64 (n,)."""
    bounds = constant(TRAITS[name].bounds(), persons.device)
    return torch.bucketize(persons[:, NAMES.index(name)].contiguous(), bounds)


def check_people(persons: Tensor) -> None:
    """Raises: UserError if these are not people: (n, T), finite, 0 … 1."""
    if persons.ndim != 2 or persons.shape[1] != len(TRAITS):
        raise user_error("face_world.people_shape", shape=tuple(persons.shape), traits=len(TRAITS))
    if not bool(((persons >= 0) & (persons <= 1)).all()):
        wrong = persons[~((persons >= 0) & (persons <= 1))][0]
        raise user_error("face_world.people_range", value=float(wrong))
