"""Hair and beards. Every style is a row of numbers, so that all heads of a batch are drawn at once."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from training.face_world.canvas import (
    AWAY,
    Canvas,
    both,
    bump,
    circle,
    ellipse,
    joined,
    mix,
    paint_where,
    rounded,
    smooth_step,
)
from training.face_world.constants import constant
from training.face_world.face import Face
from training.face_world.geometry import View
from training.face_world.head import CROWN, SKULL_HEIGHT, TEMPLE, Light, hair_shadow, shaded, skin_of
from training.face_world.palette import DYES, HAIR, along, rgb
from training.face_world.scene import ACCESSORIES, Scenes
from training.face_world.traits import BEARDS, HAIR_STYLES, choice, value

HATS = tuple(ACCESSORIES.index(name) for name in ("beanie", "straw hat"))  # they press the hair down


@dataclass(frozen=True)
class Cut:
    """How hair is worn; head units."""

    top: float = 0.14  # above the skull
    side: float = 0.06  # beside the head
    back: float = 0.15  # how far down it reaches behind
    front: float = 0.05  # and before the ears
    hairline: float = -0.66
    slope: float = 0.30  # how steeply the hairline falls away from the parting
    part: float = 0.5  # how far the parting follows the person's
    temple: float = 0.94  # where the face ends and hair begins, of its half width
    flare: float = 0.0  # how much wider it is at the ends
    wave: float = 0.0
    curl: float = 0.0  # bumps of the outline
    spikes: float = 0.0
    jagged: float = 0.0  # of the hairline
    lift: float = 0.0  # how far the crown leans to one side
    bun: float = 0.0  # radius of a knot on the crown
    tail: float = 0.0  # width of a tail
    density: float = 1.0


CUTS: dict[str, Cut] = {
    "bald": Cut(density=0.0),
    "buzz cut": Cut(
        top=0.03, side=0.02, back=0.1, hairline=-0.72, slope=0.14, part=0.0, temple=0.97, density=0.86, jagged=0.0
    ),
    "side parting": Cut(top=0.20, side=0.08, hairline=-0.70, slope=0.36, part=1.0, front=0.10),
    "quiff": Cut(top=0.34, side=0.03, hairline=-0.74, slope=0.20, part=0.3, front=0.0, lift=0.12),
    "short curls": Cut(top=0.24, side=0.16, back=0.3, curl=0.10, hairline=-0.60, slope=0.22, part=0.2, front=0.08),
    "afro": Cut(
        top=0.55, side=0.48, back=0.75, curl=0.08, hairline=-0.66, slope=0.25, part=0.0, front=0.40, flare=-0.2
    ),
    "bob with a fringe": Cut(
        top=0.20,
        side=0.17,
        back=0.95,
        front=0.90,
        hairline=-0.36,
        slope=0.06,
        part=0.1,
        temple=0.86,
        flare=0.08,
        jagged=0.03,
    ),
    "long straight": Cut(
        top=0.18, side=0.14, back=2.1, front=1.75, slope=0.62, part=0.45, temple=0.90, flare=0.10, hairline=-0.80
    ),
    "long wavy": Cut(
        top=0.24,
        side=0.22,
        back=1.9,
        front=1.45,
        slope=0.58,
        part=0.9,
        temple=0.93,
        flare=0.16,
        wave=0.08,
        hairline=-0.76,
    ),
    "bun": Cut(top=0.10, side=0.04, slope=0.36, part=0.4, bun=0.34, front=0.08),
    "ponytail": Cut(top=0.13, side=0.05, slope=0.34, part=0.8, tail=0.20, front=0.10),
    "spikes": Cut(top=0.22, side=0.06, spikes=0.24, hairline=-0.68, slope=0.18, part=0.0, jagged=0.05),
}


@dataclass(frozen=True)
class Hair:
    """The hair of a batch of heads, ready to be painted at its place among the layers."""

    cut: dict[str, Tensor]  # values
    outer: Tensor  # (b, h, w) outline of all of it, as if the face were not before it
    front: Tensor  # the part before the head
    strands: Tensor  # -1 … 1, light and dark along the hair
    colour: Tensor  # (b, 3)
    own_colour: Tensor  # (b, 3) not dyed: brows and beards


def combed(persons: Tensor, scenes: Scenes, view: View) -> Hair:
    """The shape and colour of the hair."""
    rows = constant(tuple(astuple(CUTS[name]) for name in HAIR_STYLES), persons.device)
    numbers = rows[choice(persons, "hair_style")]
    cut = {name: numbers[:, i, None, None] for i, name in enumerate(Cut.__dataclass_fields__)}
    pressed = torch.isin(scenes.accessory, constant(HATS, persons.device))[:, None, None]
    for name in ("top", "bun", "spikes", "lift"):
        cut[name] = cut[name] * ~pressed
    parting = value(persons, "hair_parting")
    cut["top"] = cut["top"] * (1 + 0.22 * parting.abs())
    worn, outer = _outlines(cut, persons, view, parting)
    opening = _opening(cut, persons, view, parting)
    colour = own = along(HAIR, value(persons, "hair_colour")[:, 0, 0])
    dyed = rgb(*DYES.values(), like=colour)[scenes.hair_dye]
    return Hair(
        cut=cut,
        outer=outer,
        front=both(worn, -opening, _sideburn(cut, persons, view)),
        strands=_strands(cut, view, parting),
        colour=torch.where(scenes.hair_dye[:, None] > 0, dyed, colour),
        own_colour=own,
    )


def _outlines(cut: dict[str, Tensor], persons: Tensor, view: View, parting: Tensor) -> tuple[Tensor, Tensor]:
    """All that may lie before the head, and that with a tail, which never does."""
    x, y = view.x + 0.06 * view.turn.sin_yaw, view.y
    width = value(persons, "face_width") + cut["side"]
    knot = circle(x, y + SKULL_HEIGHT + cut["bun"] * 0.55, cut["bun"]) + AWAY * (cut["bun"] == 0)
    worn = torch.minimum(torch.minimum(_crown(cut, x, y, width, parting), _fall(cut, x, y, width, parting)), knot)
    worn = worn + AWAY * (cut["density"] == 0)
    return worn, torch.minimum(worn, _tail(cut, x, y, width, parting))


def _crown(cut: dict[str, Tensor], x: Tensor, y: Tensor, width: Tensor, parting: Tensor) -> Tensor:
    """The hair on the skull. Locks are arcs that meet in notches; spikes are longest over the forehead."""
    around = torch.atan2(x, -y - 0.2)
    locks = torch.sin(around * 6.5 + parting * 3).abs() + 0.4 * torch.sin(around * 11 + parting * 5).abs() - 0.8
    saw = ((around * 1.9 + parting * 3) % 1 - 0.42).abs() * 2
    rough = cut["curl"] * locks + cut["spikes"] * (0.55 - saw) * bump(around, 1.5)
    above, below = (-y - TEMPLE) / (SKULL_HEIGHT + cut["top"] - TEMPLE), y / cut["back"].clamp(max=0.9)
    lean = (cut["top"] * 0.35 + cut["lift"]) * parting * above.clamp(0, 1)  # it rises on one side of the parting
    return (rounded((x - lean) / width, torch.maximum(above, below).clamp_(min=0), CROWN) - 1) * 0.8 - rough


def _fall(cut: dict[str, Tensor], x: Tensor, y: Tensor, width: Tensor, parting: Tensor) -> Tensor:
    """What hangs beside and behind the face; curls do not."""
    sway = cut["wave"] * torch.sin(y * 7.5 + parting * 3)
    flare = cut["flare"] * y.clamp(min=0) / cut["back"].clamp(min=0.5)
    side = (x - sway * 0.5).abs() - width - flare - sway * x.sign() * 0.6
    ends = y - cut["back"] + 0.10 * (x / width) ** 2 + cut["jagged"] * torch.sin(x * 31)
    return both(side, -0.05 - y, ends) + AWAY * (cut["curl"] > 0)


def _tail(cut: dict[str, Tensor], x: Tensor, y: Tensor, width: Tensor, parting: Tensor) -> Tensor:
    """A tail is tied high on the side of the parting, swings out and falls."""
    x = x * torch.where(parting > 0, 1.0, -1.0)
    fallen = ((y + SKULL_HEIGHT + 0.05) / 2.2).clamp(0, 1)
    middle = width * 0.25 + (width * 0.70 + 0.30) * torch.sin((fallen * 3.6).clamp_(max=1.57)) - 0.36 * fallen**2
    half = cut["tail"] * (0.55 + 1.7 * fallen - 2.2 * fallen**3)
    return both((x - middle).abs() - half, -0.9 - y, y - 1.1) + AWAY * (cut["tail"] == 0)


def _opening(cut: dict[str, Tensor], persons: Tensor, view: View, parting: Tensor) -> Tensor:
    """The part of the face that hair leaves free, in the coordinates of the face."""
    width = value(persons, "face_width")
    off = view.u / width - parting * 0.5 * cut["part"]
    jag = cut["jagged"] * torch.sin(view.u * 19 + parting * 7)
    line = cut["hairline"] + cut["slope"] * off.abs() ** 1.5 + jag
    side = view.u.abs() - width * (cut["temple"] + 0.04 * torch.sin(view.v * 3))
    return -joined(view.v - line, -side, 0.22)


def _sideburn(cut: dict[str, Tensor], persons: Tensor, view: View) -> Tensor:
    """Where hair before the ears ends: it grows narrower downwards, locks end straight."""
    inwards = (1.04 - view.u.abs() / value(persons, "face_width")).clamp(0, 0.2)
    return view.y - cut["front"] + inwards * torch.where(cut["front"] < 0.5, 2.2, 0.6)


def _strands(cut: dict[str, Tensor], view: View, parting: Tensor) -> Tensor:
    x, y = view.x - parting * 0.3 * cut["part"], view.y
    spread = 0.42 + 0.62 * smooth_step(y, -1.25, 0.1)
    q = x / spread + cut["wave"] * 1.6 * torch.sin(y * 7.5 + parting * 3)
    q = q + cut["curl"] * 4 * torch.sin(y * 13 + 2 * torch.sin(x * 9))
    fine = torch.exp(-((34 * view.pixel) ** 2) / 6)  # strands thinner than a pixel are not drawn
    broad = torch.sin(q * 13 + 2 * torch.sin(q * 5 + parting * 4))
    return 0.6 * broad + 0.4 * fine * torch.sin(q * 34 + 3 * torch.sin(q * 9))


def _dressed(hair: Hair, view: View, light: Light, depth: float) -> Tensor:
    """The hair's colour with strands, a band of shine and the shade of the scene, (b, 3, h, w)."""
    bright = light.head * 0.8 + 0.10 + hair.strands * 0.15 - depth
    base = shaded(hair.colour, bright.clamp(0, 1), (0.42, 0.38, 0.42), (1.28, 1.22, 1.18))
    band = bump(torch.hypot(view.x - 0.18 * light.right, view.y * 0.9 + 0.08) - 0.82, 0.12)
    band = band * (0.55 + 0.45 * hair.strands) * smooth_step(view.y, 0.1, -0.4) * (1 - depth)
    sheen = hair.colour * 0.62 + 0.36
    return mix(base, sheen, (band * 0.75).clamp(0, 1) * (1 - 0.6 * (hair.cut["curl"] > 0)))


def paint_back_hair(canvas: Canvas, hair: Hair, view: View, light: Light) -> None:
    """What hangs behind head and body."""
    canvas.fill(hair.outer, _dressed(hair, view, light, 0.18), hair.cut["density"])


def paint_front_hair(canvas: Canvas, persons: Tensor, hair: Hair, view: View, light: Light, outline: Tensor) -> None:
    """What lies before the head, with its shadow on the face."""
    hair_shadow(canvas, persons, hair.front, outline)
    canvas.fill(hair.front, _dressed(hair, view, light, 0.0), hair.cut["density"])
    inked = both((hair.strands - 0.62).abs() * 0.045 - canvas.pen * 0.4, hair.front + 0.03)
    canvas.draw(inked, 0.42 * hair.cut["density"])


def paint_beard(canvas: Canvas, persons: Tensor, face: Face, view: View, hair: Hair, outline: Tensor) -> None:
    """Stubble, moustache, goatee or full beard; painted before the mouth, which lies upon it."""
    kind = choice(persons, "beard")
    for chosen, painter in ((kind == BEARDS.index("stubble"), _stubble), (kind >= BEARDS.index("moustache"), _beard)):
        paint_where(canvas, chosen, painter, persons, face, view, hair, outline)


def _beard_shapes(face: Face, width: Tensor, view: View, outline: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moustache, goatee and what grows on the jaw."""
    side = view.u.abs()
    rough = 0.014 * torch.sin(view.u * 23) + 0.010 * torch.sin(view.u * 37 + 2)
    x = side / (face.mouth_width * 1.12 + 0.03)
    above = view.v - face.nose_v * 0.36 - face.mouth_v * 0.64 - 0.085 * x**2 + face.smile * 0.03
    moustache = both(above.abs() - 0.072 * (1 - x**2).clamp(min=0).sqrt() + rough * 0.4, (x - 1) * 0.3, 0.012 - side)
    goatee = ellipse(view.u, view.v - face.mouth_v - face.gape - 0.20, 0.23, 0.25) + rough
    # The upper edge runs from the ear under the cheek to the corner of the mouth.
    edge = face.nose_v + 0.20 - 0.30 * smooth_step(side / width, 0.45, 1.0) + rough
    return moustache, goatee, both(edge - view.v, outline - 0.085 + rough, -0.15 - view.v)


def _stubble(canvas: Canvas, persons: Tensor, face: Face, view: View, hair: Hair, outline: Tensor) -> None:
    moustache, _, jaw = _beard_shapes(face, value(persons, "face_width"), view, outline)
    shadow = smooth_step(torch.minimum(jaw + 0.09, moustache), 0.06, -0.06) * canvas.coverage(outline)
    canvas.tint(shadow * 0.40, torch.lerp(hair.own_colour, skin_of(persons), 0.25) * 0.75)


def _beard(canvas: Canvas, persons: Tensor, face: Face, view: View, hair: Hair, outline: Tensor) -> None:
    kind = choice(persons, "beard")[:, None, None]
    moustache, goatee, jaw = _beard_shapes(face, value(persons, "face_width"), view, outline)
    goatee = goatee + AWAY * (kind != BEARDS.index("goatee"))
    jaw = jaw + AWAY * (kind != BEARDS.index("full"))
    shape = torch.minimum(moustache, torch.minimum(goatee, jaw))
    tone = 0.45 + 0.15 * hair.strands + 0.15 * torch.sin(view.u * 31 + 1.5 * torch.sin(view.v * 9))
    fur = shaded(hair.own_colour * 0.88, tone.clamp_(0, 1), (0.55, 0.52, 0.52), (1.18, 1.14, 1.10))
    canvas.fill(shape, fur, 0.96, outline=0.6)
