"""What a person asks for and what comes back: the data of a generation, without any model.

Notation: `n` pictures, `w`×`h` output size in pixels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

from instantid.few_steps import FEW_STEPS, NO_FEW_STEPS, usual_settings
from instantid.messages import user_error
from instantid.styles import DEFAULT_NEGATIVE_PROMPT, NO_STYLE, STYLES

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from instantid.faces import Face
    from instantid.images import ImageSource

MAX_SEED = 2**32 - 1
MAX_PROMPT_CHARACTERS = 4000
MAX_EXTRA_PHOTOS = 15
SIZE_MULTIPLE = 8  # the VAE halves a picture three times

# Scheduler name -> (diffusers class, settings laid over the base model's own).
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++_2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "ddim": ("DDIMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "euler_trailing": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "ddim_trailing": ("DDIMScheduler", {"timestep_spacing": "trailing"}),
    "lcm": ("LCMScheduler", {}),
}


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest allowed value of a number, and the step a slider moves by."""

    least: float
    most: float
    step: float


BOUNDS: dict[str, Bounds] = {
    "steps": Bounds(1, 100, 1),
    "guidance_scale": Bounds(1.0, 20.0, 0.1),
    "guidance_end": Bounds(0.0, 1.0, 0.05),
    "identity_strength": Bounds(0.0, 1.5, 0.05),
    "adapter_strength": Bounds(0.0, 1.5, 0.05),
    "count": Bounds(1, 8, 1),
    "width": Bounds(64, 2048, SIZE_MULTIPLE),
    "height": Bounds(64, 2048, SIZE_MULTIPLE),
    "face_index": Bounds(0, 99, 1),
    "pose_face_index": Bounds(0, 99, 1),
}
WHOLE_NUMBERS = {"steps", "count", "width", "height", "face_index", "pose_face_index"}


@dataclass(frozen=True)
class GenerationRequest:
    """One request. Every field but `face` and `prompt` has a default that suits SDXL base models."""

    face: ImageSource  # the photo of the person
    prompt: str
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT
    style: str = NO_STYLE  # a key of `styles.STYLES`
    more_faces: Sequence[ImageSource] = ()  # further photos of the same person: their embeddings are averaged
    face_index: int = 0  # which face of the photo, 0 = largest
    pose: ImageSource | None = None  # photo whose face gives place, size and pose; None = the face photo itself
    pose_face_index: int = 0
    width: int | None = None  # pixels, multiple of 8; None = from the pose photo's proportions
    height: int | None = None
    few_steps: str = NO_FEW_STEPS  # a key of `few_steps.FEW_STEPS`, whose LoRA is then loaded, or "none"
    steps: int | None = None  # None, here and below: what suits `few_steps`; 30 without
    guidance_scale: float | None = None  # 1 = off; 3.5 to 5 suits InstantID; None: 5 without `few_steps`
    guidance_end: float = 1.0  # share of the steps with guidance; those after it do half the work
    identity_strength: float = 0.8  # IdentityNet (place and shape of the face)
    adapter_strength: float = 0.8  # identity attention (likeness)
    seed: int | None = None  # 0 … 2**32 - 1; None = drawn at random
    scheduler: str | None = None  # a key of `SCHEDULERS`; None: "euler" without `few_steps`
    count: int = 1  # pictures; picture i uses seed + i
    region_mask: bool = False  # True: the identity acts only around the face

    def checked(self) -> GenerationRequest:
        """The request with a seed drawn if it had none, and everything decided that was left to `few_steps`.

        Raises: UserError naming the field, what was received and what is allowed.
        """
        if self.face is None:
            raise user_error("request.no_face_photo")
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise user_error("request.no_prompt")
        negative_prompt = "" if self.negative_prompt is None else self.negative_prompt
        if not isinstance(negative_prompt, str):
            raise user_error(
                "request.unknown_choice", field="negative_prompt", value=negative_prompt, allowed=str.__name__
            )
        for name, text in (("prompt", self.prompt), ("negative_prompt", negative_prompt)):
            if len(text) > MAX_PROMPT_CHARACTERS:
                raise user_error("request.text_too_long", field=name, length=len(text), most=MAX_PROMPT_CHARACTERS)
        more_faces = _as_photos(self.more_faces)
        if len(more_faces) > MAX_EXTRA_PHOTOS:
            raise user_error("request.too_many_photos", count=len(more_faces), most=MAX_EXTRA_PHOTOS)
        _check_choice("style", self.style, STYLES)
        _check_choice("few_steps", self.few_steps, {NO_FEW_STEPS: None} | FEW_STEPS)
        decided = {
            name: usual if getattr(self, name) is None else getattr(self, name)
            for name, usual in usual_settings(self.few_steps).items()
        }
        _check_choice("scheduler", decided["scheduler"], SCHEDULERS)
        if self.region_mask not in (True, False):
            raise user_error(
                "request.unknown_choice", field="region_mask", value=self.region_mask, allowed="True, False"
            )
        numbers = {}
        for name, bounds in BOUNDS.items():
            value = decided.get(name, getattr(self, name))
            if value is None and name in ("width", "height"):
                continue
            numbers[name] = _checked_number(name, value, bounds)
        if (self.width is None) != (self.height is None):
            raise user_error("request.one_side", width=self.width, height=self.height)
        for name in ("width", "height"):
            if name in numbers and numbers[name] % SIZE_MULTIPLE:
                nearest = max(round(numbers[name] / SIZE_MULTIPLE), 1) * SIZE_MULTIPLE
                raise user_error(
                    "request.size_multiple", field=name, value=numbers[name], multiple=SIZE_MULTIPLE, nearest=nearest
                )
        seed = random.SystemRandom().randint(0, MAX_SEED) if self.seed is None else self.seed
        if not _is_number(seed, 0, MAX_SEED) or seed != int(seed):
            raise user_error("request.bad_seed", value=self.seed, most=MAX_SEED)
        return replace(
            self,
            negative_prompt=negative_prompt,
            more_faces=more_faces,
            region_mask=bool(self.region_mask),
            seed=int(seed),
            **(decided | numbers),
        )

    def seeds(self) -> list[int]:
        """The seed of each picture; only on a checked request."""
        return [(self.seed + i) % (MAX_SEED + 1) for i in range(self.count)]

    def settings(self) -> dict[str, Any]:
        """Everything but the photos, ready for JSON."""
        photos = {"face", "more_faces", "pose"}
        return {
            name: value
            for name, value in asdict(replace(self, face="", more_faces=(), pose=None)).items()
            if name not in photos
        }


@dataclass(frozen=True)
class Progress:
    """One report while a request runs."""

    stage: str  # "download" (steps are megabytes then), "faces", "text", "denoising", "decoding" or "done"
    step: int = 0  # steps done, of the whole request
    steps: int = 0
    seconds: float = 0.0  # since the request began


@dataclass(frozen=True)
class Note:
    """Something to tell the person about a run that went well: key and facts of a sentence."""

    key: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GenerationResult:
    """What `generate_image` returns."""

    images: list[Image.Image]  # n pictures of w × h
    seeds: list[int]  # n, one per picture
    request: GenerationRequest  # as it ran, seed filled in
    width: int
    height: int
    face: Face  # the face whose identity was used
    face_picture: Image.Image  # crop of the photo around that face
    key_points_picture: Image.Image  # what IdentityNet saw, w × h
    key_points: np.ndarray  # (5, 2) x, y of the points drawn in it
    seconds: dict[str, float] = field(default_factory=dict)  # stage -> time; "total" is their whole
    peak_vram_gib: float | None = None  # None without a GPU
    stage_peaks: dict[str, float] = field(default_factory=dict)  # stage -> peak VRAM in GiB; empty without a GPU
    notes: tuple[Note, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Everything needed to make the same pictures again, ready for JSON."""
        size = {"width": self.width, "height": self.height, "seeds": self.seeds}
        return self.request.settings() | size | {"seconds": {k: round(v, 3) for k, v in self.seconds.items()}}


OnProgress = Callable[[Progress], None]
Generator = Callable[[GenerationRequest, OnProgress, Callable[[], bool]], GenerationResult]
"""What an interface needs of the models: `generator(request, on_progress, cancelled) -> GenerationResult`."""


def _check_choice(name: str, value: str, allowed: dict) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise user_error("request.unknown_choice", field=name, value=value, allowed=", ".join(allowed))


def _checked_number(name: str, value: object, bounds: Bounds) -> int | float:
    """`value` as a plain int or float inside `bounds`."""
    if not _is_number(value, bounds.least, bounds.most) or (name in WHOLE_NUMBERS and value != int(value)):
        raise user_error("request.out_of_range", field=name, value=value, least=bounds.least, most=bounds.most)
    return int(value) if name in WHOLE_NUMBERS else float(value)


def _is_number(value: object, least: float, most: float) -> bool:
    """Whether it is a number, numpy's among them, from `least` to `most`; nan and True are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(least <= value <= most)


def _as_photos(photos: object) -> tuple:
    """One photo, several or None -> a tuple."""
    if photos is None:
        return ()
    return tuple(photos) if isinstance(photos, list | tuple) else (photos,)
