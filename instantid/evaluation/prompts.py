"""What is asked for: prompts, each with what a classifier should find in its picture.

A file of prompts has one on each line: the words alone, or a JSON object
`{"prompt": "an ink drawing of a person on a beach", "style": "ink", "background": "beach"}`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from instantid.evaluation.obedience import TRAITS
from instantid.messages import user_error


@dataclass(frozen=True)
class Prompt:
    """One prompt."""

    text: str
    wanted: dict[str, str] = field(default_factory=dict)  # trait -> class


def _prompt(text: str, style: str, background: str, expression: str, hair: str = "") -> Prompt:
    wanted = {"style": style, "background": background, "expression": expression, "hair": hair}
    return Prompt(text, {trait: named for trait, named in wanted.items() if named})


# Each style, background, expression and hair colour of the drawn world once at least; all of them can be photographed
# or painted too.
DEFAULT_PROMPTS = (
    _prompt("a photo of a person on a beach, smiling, with blue hair", "photo", "beach", "smiling", "blue"),
    _prompt("a watercolour painting of a person in a forest, with a neutral face", "watercolour", "forest", "neutral"),
    _prompt("an ink drawing of a person in a city at night, looking surprised", "ink", "city", "surprised"),
    _prompt("a comic book panel of a person in the snow, with an angry face", "comic", "snow", "angry"),
    _prompt("a neon portrait of a person in space, laughing", "neon", "space", "laughing"),
    _prompt("a film noir still of a person in a library, looking sad", "film noir", "library", "sad"),
    _prompt("a pencil drawing of a person in a garden, winking with one eye", "pencil", "garden", "winking"),
    _prompt(
        "a pixel art portrait of a person in a desert, with a happy smile, with green hair",
        *("pixel art", "desert", "smiling", "green"),
    ),
    _prompt(
        "an oil painting of a person in the mountains, looking calm, with red hair",
        *("oil painting", "mountains", "neutral", "red"),
    ),
    _prompt("an old sepia photo of a person in a studio, laughing", "old photograph", "studio", "laughing"),
    _prompt("a photograph of a person in the rain, looking sad, with pink hair", "photo", "rain", "sad", "pink"),
    _prompt(
        "a watercolour painting of a person under water, with a surprised face, with purple hair",
        *("watercolour", "underwater", "surprised", "purple"),
    ),
    _prompt(
        "a photo of a person in a studio, with an angry face, with silver hair", "photo", "studio", "angry", "silver"
    ),
)


def read_prompts(file: Path) -> tuple[Prompt, ...]:
    """The prompts of a file. Raises: UserError naming the line that cannot be read, or a file without any."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise user_error("evaluate.prompts_unreadable", file=file, reason=type(error).__name__) from error
    prompts = tuple(_read(line.strip(), file, number) for number, line in enumerate(lines, 1) if line.strip())
    if not prompts:
        raise user_error("evaluate.no_prompts", file=file)
    return prompts


def _read(line: str, file: Path, number: int) -> Prompt:
    if not line.startswith("{"):
        return Prompt(line)
    try:
        told = json.loads(line)
        wanted = {trait: told[trait] for trait in TRAITS if trait in told}
        if not set(told) <= {"prompt", *TRAITS} or not all(isinstance(text, str) for text in told.values()):
            raise ValueError(line)
        return Prompt(told["prompt"], wanted)
    except (ValueError, KeyError) as error:
        raise user_error("evaluate.bad_prompt", file=file, line=number, traits=", ".join(TRAITS)) from error
