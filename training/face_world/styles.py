"""How a picture is made: each style redraws its rows of the batch from the painted picture and its contours.

Every length is a share of the picture's side, so that a style looks the same at every size. `k` pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.face_world.canvas import as_paint, mix, smooth_step
from training.face_world.chance import smooth_noise, uniform
from training.face_world.palette import rgb
from training.face_world.scene import STYLES, Scenes


@dataclass(frozen=True)
class Draft:
    """What a style starts from."""

    picture: Tensor  # (k, 3, h, w)
    lines: Tensor  # (k, h, w)
    subject: Tensor  # (k, h, w)
    x: Tensor  # (1, h, w), -1 … 1
    y: Tensor
    texture: Tensor  # (k,)
    r: Tensor  # (k, 4, 1, 1)

    @property
    def size(self) -> int:
        return self.picture.shape[-1]

    def noise(self, purpose: str, cells: int) -> Tensor:
        """Smooth noise 0 … 1, (k, h, w)."""
        return smooth_noise(self.texture, purpose, cells, self.size)

    def background(self, picture: Tensor, weight: float) -> Tensor:
        """`picture` on the person, a part `weight` of it behind."""
        return picture * (self.subject + (1 - self.subject) * weight)


def soft(picture: Tensor, cells: int) -> Tensor:
    """A blurred picture: what is left of it on a grid of `cells` × `cells`."""
    size = picture.shape[-1]
    if cells >= size:
        return picture
    small = F.interpolate(picture, (cells, cells), mode="area")
    return F.interpolate(small, (size, size), mode="bilinear")


def soft_field(field: Tensor, cells: int) -> Tensor:
    return soft(field[:, None], cells)[:, 0]


def luminance(picture: Tensor) -> Tensor:
    """How bright each pixel is, (k, h, w)."""
    return (picture * as_paint(rgb((0.30, 0.59, 0.11), like=picture))).sum(1)


def vivid(picture: Tensor, amount: float) -> Tensor:
    """Colours away from grey for amounts above 1, towards it below."""
    grey = luminance(picture)[:, None]
    return (grey + (picture - grey) * amount).clamp(0, 1)


def contrast(field: Tensor, amount: float, middle: float = 0.5) -> Tensor:
    return (middle + (field - middle) * amount).clamp(0, 1)


def vignette(d: Draft, strength: float) -> Tensor:
    """Darker corners, a factor (1, 1, h, w)."""
    return (1 - strength * smooth_step(torch.hypot(d.x, d.y), 0.65, 1.45))[:, None]


def photo(d: Draft) -> Tensor:
    """A portrait lens: the place out of focus, light that blooms, a little grain."""
    behind = 1 - d.subject[:, None]
    blurred = soft(d.picture * behind, 40) / soft(behind, 40).clamp(min=1e-3)  # of the place alone: no halo
    picture = torch.lerp(d.picture, blurred.clamp(0, 1), behind * 0.8)
    picture = picture + 0.16 * (soft(picture, 14) - 0.45)
    grain = (d.noise("grain", 192) - 0.5) * 0.022
    return (contrast(picture, 1.06) + grain[:, None]) * vignette(d, 0.12)


def watercolour(d: Draft) -> Tensor:
    """Washes that pool at their edges, granulate, and leave the paper white around the picture."""
    paper = 0.955 + 0.05 * (d.noise("paper", 96) - 0.5) + 0.04 * (d.noise("paper", 40) - 0.5)
    flow_x, flow_y = (d.noise(f"flow {axis}", 11) - 0.5 for axis in "xy")
    wobble = d.background(torch.ones_like(flow_x), 2.6) * 0.045
    wet = warped(d.picture, d.x + flow_x * wobble, d.y + flow_y * wobble)
    bled = soft(wet, 40)
    wash = torch.lerp(bled, wet, (0.35 + 0.40 * d.subject)[:, None])
    pools = (soft_field(luminance(wet), 24) - soft_field(luminance(wet), 64)).clamp(-0.12, 0.25)
    pigment = 1.02 - 0.30 * d.noise("pigment", 9) - 0.16 * d.noise("pigment", 30)
    strength = pigment.clamp(0.3, 1) * (0.80 + 0.2 * d.subject)
    colour = vivid(wash.clamp(min=0.02) ** 0.85, 1.35)
    picture = paper[:, None] * (1 - strength[:, None] * (1 - colour)) - pools[:, None] * 0.8
    rim = torch.maximum(d.x.abs(), d.y.abs()) + 0.22 * (d.noise("rim", 7) - 0.5) + 0.08 * (d.noise("rim", 22) - 0.5)
    dry = smooth_step(rim, 0.80, 0.93) * (1 - 0.75 * d.subject)
    picture = mix(picture, rgb("#faf6ec", like=picture), dry)
    pencil = 1 - 0.50 * d.lines * (0.5 + 0.5 * d.noise("pencil", 26))
    return picture * pencil[:, None].clamp(0, 1)


def warped(picture: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The picture with each pixel taken from (x, y)."""
    grid = torch.stack(torch.broadcast_tensors(x, y, picture[:, 0])[:2], -1)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def hatching(d: Draft, angle: float, spacing: float, tremble: float = 0.015) -> Tensor:
    """Parallel pen strokes: 0 in the middle of a stroke, 1 half way to the next. `spacing` as a share of the side."""
    shake = (d.noise("shake", 9) - 0.5) * tremble
    direction = torch.tensor(angle)
    across = (d.x * direction.cos() + d.y * direction.sin() + shake) / (2 * spacing)
    return ((across % 1) - 0.5).abs() * 2


def evened(d: Draft, power: float) -> Tensor:
    """Brightness with the person's dark half lifted, so that dark skin keeps its features in black and white."""
    grey = luminance(d.picture).clamp(min=0)
    return torch.lerp(grey, grey**power, d.subject)


def ink(d: Draft) -> Tensor:
    """Black pen on white paper; shade is hatched, then hatched across, then solid; one wash of colour."""
    grey = evened(d, 0.72)
    grey = contrast(grey, 1.3, 0.5) + (1 - d.subject) * 0.16
    spacing = 0.020
    dark = torch.zeros_like(grey)
    for angle, level in ((0.9, 0.62), (-0.7, 0.42), (0.1, 0.27)):
        wanted = ((level - grey) * 2.6).clamp(0, 1)  # share of the spacing that is black
        dark = torch.maximum(dark, smooth_step(wanted - hatching(d, angle, spacing), -0.25, 0.25) * (wanted > 0))
    solid = smooth_step(grey, 0.20, 0.11)
    dark = torch.maximum(torch.maximum(dark * 0.92, solid), contrast(d.lines, 1.3, 0.3))
    paper = as_paint(rgb("#fbf8f0", like=grey)).expand_as(d.picture)
    tone = rgb("#d8e4ea", "#f0dfc8", "#e3ead6", "#eadbe2", like=grey)[(d.r[:, 0, 0, 0] * 4).long()]
    wash = mix(paper, tone, (1 - d.subject) * smooth_step(grey, 0.95, 0.55) * 0.9)
    wash = torch.lerp(wash, vivid(d.picture, 1.0), (0.10 * d.subject)[:, None])
    return mix(wash, rgb("#15141a", like=grey), dark)


def comic(d: Draft) -> Tensor:
    """Few flat colours, dots in the shade, thick contours."""
    vividly = vivid(contrast(torch.lerp(soft(d.picture, 72), d.picture, 0.7), 1.15, 0.5), 1.28)
    grey = luminance(vividly).clamp(0.04, 1)
    steps = 5
    level = (grey * steps).floor() + smooth_step((grey * steps) % 1, 0.40, 0.60)
    flat = vividly * ((level + 0.35) / (steps + 0.2) / grey)[:, None]
    pitch = 0.024
    u, v = (d.x + d.y) / (2 * pitch * 1.4), (d.x - d.y) / (2 * pitch * 1.4)
    dot = torch.hypot((u % 1) - 0.5, (v % 1) - 0.5)
    shade = ((0.62 - grey) * 0.9).clamp(0, 0.48)
    dots = smooth_step(dot, shade + 0.10, shade - 0.05) * (shade > 0.02) * (1 - 0.55 * d.subject)
    flat = flat * (1 - 0.30 * dots[:, None])
    bold = contrast(soft_field(d.lines, 110) * 1.9, 1.5, 0.35) if d.size > 110 else contrast(d.lines * 1.4, 1.4, 0.35)
    return mix(flat.clamp(0, 1), rgb("#120f18", like=flat), torch.maximum(bold, d.lines))


def neon(d: Draft) -> Tensor:
    """Night: what is bright glows blue and rosy, contours are tubes of light."""
    grey = evened(d, 0.58)
    left, right = rgb("#ff2fa0", "#ff7a2f", "#b14dff", like=grey), rgb("#21d4ff", "#2fffc0", "#3d7bff", like=grey)
    pick = (d.r[:, 1, 0, 0] * 2.99).long()
    across = smooth_step(d.x + 0.3 * d.y + (d.r[:, 2] - 0.5) * 0.6, -0.7, 0.7).expand_as(grey)
    tube = mix(left[pick], right[pick], across)
    base = mix(rgb("#0a0620", like=grey), rgb("#7a58c0", like=grey), contrast(grey + 0.06 * d.subject, 1.2))
    base = torch.lerp(base, vivid(d.picture, 1.5) * 0.75, (0.22 + 0.34 * d.subject)[:, None])
    base = base * (0.62 + 0.45 * tube) * d.background(torch.ones_like(grey), 0.55)[:, None]
    light = d.background(d.lines, 0.6)
    glow = soft_field(light, 40) * 0.9 + soft_field(light, 16) * 0.9
    rim = soft_field(d.subject, 24) * (1 - d.subject)
    picture = base + tube * (glow + rim * 0.9)[:, None] * 0.62
    return torch.lerp(picture, 0.55 * tube + 0.45, (light * 0.85)[:, None])


def film_noir(d: Draft) -> Tensor:
    """Black and white, hard light through a blind, grain."""
    grey = evened(d, 0.82)
    slats = torch.sin((d.y + 0.22 * d.x) * 19 + d.r[:, 0] * 6)
    blind = smooth_step(slats, -0.25, 0.25)
    where = smooth_step(d.x * (d.r[:, 1] - 0.5).sign() + 0.3 * d.y, -0.9, 0.5)
    lamp = 0.50 + 0.85 * smooth_step(d.x * (d.r[:, 1] - 0.5).sign() * -1, -1.1, 0.6)
    grey = contrast(grey * lamp, 1.45, 0.42) * (1 - 0.52 * blind * where * (0.45 + 0.55 * (1 - d.subject)))
    grey = d.background(grey, 0.62) + 0.05 * soft_field(grey, 12)
    grey = grey + (d.noise("grain", 128) - 0.5) * 0.10
    tone = torch.stack([grey, grey * 1.0, grey * 1.02], 1)
    return tone * vignette(d, 0.6)


def pencil(d: Draft) -> Tensor:
    """Graphite on cream paper: soft strokes follow the shade, contours are drawn over twice."""
    grey = contrast(evened(d, 0.75), 1.2)
    paper = 0.5 + 0.5 * (d.noise("paper", 120) - 0.5) + 0.3 * (d.noise("paper", 60) - 0.5)
    strokes = 0.5 + 0.5 * torch.cos(hatching(d, 0.78, 0.011, 0.03) * 3.1416)
    tone = (1 - grey) ** 1.25
    shade = tone * (0.62 + 0.42 * strokes) * (0.65 + 0.6 * paper)
    edge = smooth_step(torch.hypot(d.x, d.y) + 0.3 * (d.noise("edge", 8) - 0.5), 1.25, 0.75)
    shade = shade * torch.maximum(edge * 0.75, d.subject)
    second = warped(d.lines[:, None], d.x + 0.010 + 0.02 * (d.noise("twice", 6) - 0.5), d.y - 0.008)[:, 0]
    line = (d.lines * 0.85 + second * 0.35) * (0.55 + 0.6 * paper)
    dark = (shade * 0.80 + line * 0.75).clamp(0, 0.93)
    return mix(rgb("#f7f2e6", like=grey), rgb("#26262b", like=grey), dark)


def pixel_art(d: Draft) -> Tensor:
    """A coarse grid of few colours with dark contours."""
    cells = min(64, d.size)
    small = F.interpolate(d.picture, (cells, cells), mode="area")
    lines = F.interpolate(d.lines[:, None], (cells, cells), mode="area")
    grid = torch.arange(cells, device=small.device)
    ordered = ((grid[:, None] + grid) % 2 - 0.5) * 0.30  # two neighbouring shades mix in a chequered pattern
    steps = 6
    small = vivid(contrast(small, 1.15), 1.15) * steps + ordered
    small = small.round().clamp(0, steps) / steps
    small = small * (1 - 0.62 * smooth_step(lines, 0.22, 0.6))
    picture = F.interpolate(small, (d.size, d.size), mode="nearest")
    seam = torch.minimum((d.x + 1) * cells / 2 % 1, (d.y + 1) * cells / 2 % 1)
    return picture * (1 - 0.10 * smooth_step(seam, 0.16, 0.04))[:, None]


def oil_painting(d: Draft) -> Tensor:
    """Patches of even colour smeared along the brush, with the relief of thick paint.

    The patches are those of Kuwahara's filter: of the four squares that meet at a pixel, the mean of the most even one.
    """
    reach = max(round(d.size / 56), 1)
    source = vivid(d.picture, 1.15)
    padded = F.pad(torch.cat([source, luminance(source)[:, None] ** 2], 1), (reach,) * 4, mode="replicate")
    means = F.avg_pool2d(padded, reach + 1, 1)  # (k, 4, h + reach, w + reach)
    corners = [means[:, :, top : top + d.size, left : left + d.size] for top in (0, reach) for left in (0, reach)]
    spread = torch.stack([corner[:, 3] - luminance(corner[:, :3]) ** 2 for corner in corners])
    flat = torch.stack([corner[:, :3] for corner in corners])
    best = spread.argmin(0)[None, :, None].expand(1, -1, 3, -1, -1)
    flat = torch.lerp(flat.gather(0, best)[0], source, (0.30 * d.subject)[:, None])
    angle = (d.noise("brush", 5) * 2 + d.noise("brush", 11)) * 3.5
    step_x, step_y = angle.cos(), angle.sin()
    bristles = d.noise("bristle", 110)
    height, picture = torch.zeros_like(bristles), torch.zeros_like(flat)
    length = d.background(torch.ones_like(angle), 2.6) * 0.010
    for step in (-2, -1, 0, 1, 2):
        x, y = d.x + step_x * length * step, d.y + step_y * length * step
        smeared = warped(torch.cat([flat, bristles[:, None]], 1), x, y)
        picture, height = picture + smeared[:, :3] / 5, height + smeared[:, 3] / 5
    relief = height - warped(height[:, None], d.x - 0.012, d.y - 0.012)[:, 0]
    picture = contrast(picture, 1.15) * rgb((1.05, 0.99, 0.88), like=picture)[:, None, None]
    return (
        (picture * (1 + (0.75 - 0.5 * d.subject[:, None]) * relief[:, None]))
        * vignette(d, 0.35)
        * (1 - 0.22 * d.lines[:, None])
    )


def old_photograph(d: Draft) -> Tensor:
    """Sepia, faded in the middle tones, with specks, a crease and a pale border."""
    grey = evened(d, 0.85)
    grey = contrast(torch.lerp(soft_field(grey, 96), grey, 0.8), 1.45, 0.48) + 0.02 + 0.08 * (d.noise("fade", 4) - 0.5)
    brown, cream = rgb("#2b170c", like=grey), rgb("#f3e2c0", like=grey)
    picture = mix(brown, cream, grey.clamp(0, 1))
    specks = smooth_step(d.noise("speck", 90), 0.965, 0.985)
    crease = smooth_step(
        (d.x * (d.r[:, 0] - 0.5) + d.y * 0.9 + d.r[:, 1] - 0.2 + 0.01 * d.noise("crease", 40)).abs(), 0.012, 0.004
    )
    picture = mix(picture, cream, (specks * 0.5 + crease * 0.35 * (1 - 0.7 * d.subject)).clamp(0, 1)) * vignette(
        d, 0.38
    )
    edge = torch.maximum(d.x.abs(), d.y.abs()) + 0.006 * (d.noise("border", 50) - 0.5)
    return mix(picture, rgb("#f1e6cf", like=grey), smooth_step(edge, 0.925, 0.94))


PAINTERS: dict[str, Callable[[Draft], Tensor]] = {
    "photo": photo,
    "watercolour": watercolour,
    "ink": ink,
    "comic": comic,
    "neon": neon,
    "film noir": film_noir,
    "pencil": pencil,
    "pixel art": pixel_art,
    "oil painting": oil_painting,
    "old photograph": old_photograph,
}


def styled(picture: Tensor, lines: Tensor, subject: Tensor, scenes: Scenes, x: Tensor, y: Tensor) -> Tensor:
    """All pictures in their scenes' styles, (b, 3, h, w) in 0 … 1."""
    finished = torch.empty_like(picture)
    chance = uniform(scenes.texture, 0, "style", 4)[..., None, None]
    for kind, name in enumerate(STYLES):
        rows = (scenes.style == kind).nonzero()[:, 0]
        if len(rows):
            draft = Draft(picture[rows], lines[rows], subject[rows], x, y, scenes.texture[rows], chance[rows])
            finished[rows] = PAINTERS[name](draft)
    return finished.clamp_(0, 1)
