"""What differs from one row of the report to the next: settings of a request, or how the bundle is loaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from instantid.memory_plan import STORAGES
from instantid.messages import user_error
from instantid.request import BOUNDS, MAX_EXTRA_PHOTOS, WHOLE_NUMBERS, GenerationRequest

# What a case decides itself.
OF_THE_CASE = ("face", "prompt", "more_faces", "face_index", "pose", "pose_face_index", "seed", "count")
FIELDS = tuple(field.name for field in fields(GenerationRequest) if field.name not in OF_THE_CASE)
WHOLE_TEXTS = ("negative_prompt",)  # commas belong to them
SWITCH = {"on": True, "off": False, "true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class Loading:
    """How the bundle is loaded, as far as a row says; None = as ever."""

    storage: str | None = None
    heads: int | None = None  # of the Resampler


@dataclass(frozen=True)
class Variant:
    """One row."""

    name: str = ""  # what was asked for, "steps=8"; "" for the row without any change
    fields: dict[str, Any] = field(default_factory=dict)  # of the request
    loading: Loading = Loading()
    references: int = 1  # photos of the person whose embeddings are averaged


def parse_variants(options: Sequence[Sequence[str]]) -> list[Variant]:
    """The rows that repeated `--vary` ask for, after one without any change.

    Args:
        options: the words of each `--vary`, each NAME=VALUE,VALUE…; words of one option go together: every value of the
            one with every value of the other.

    Raises: UserError for a name or value that cannot be.
    """
    variants = [Variant()]
    for words in options:
        choices = [_choices(word) for word in words]
        for chosen in itertools.product(*choices):
            variant = Variant(" ".join(f"{name}={value}" for name, value in chosen))
            for name, value in chosen:
                variant = _with(variant, name, value)
            variants.append(variant)
    return variants


def check_variants(variants: Sequence[Variant], shared: dict[str, Any]) -> None:
    """Raises: UserError, as `generate` would, for a row that asks for what cannot be."""
    for variant in variants:
        GenerationRequest(face="photo", prompt="prompt", **(shared | variant.fields)).checked()


def _choices(word: str) -> list[tuple[str, str]]:
    name, equals, values = word.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or name not in (*FIELDS, *_SPECIAL):
        raise user_error("evaluate.bad_variant", word=word, names=", ".join((*FIELDS, *_SPECIAL)))
    return [(name, value.strip()) for value in ([values] if name in WHOLE_TEXTS else values.split(","))]


def _with(variant: Variant, name: str, value: str) -> Variant:
    if name in _SPECIAL:
        return _SPECIAL[name](variant, value)
    return replace(variant, fields=variant.fields | {name: _field(name, value)})


def _field(name: str, value: str) -> Any:
    if name == "region_mask":
        if value.lower() not in SWITCH:
            raise user_error("request.unknown_choice", field=name, value=value, allowed="on, off")
        return SWITCH[value.lower()]
    if name not in BOUNDS:
        return value
    bounds = BOUNDS[name]
    try:
        return int(value) if name in WHOLE_NUMBERS else float(value)
    except ValueError as error:
        raise user_error(
            "request.out_of_range", field=name, value=value, least=bounds.least, most=bounds.most
        ) from error


def _storage(variant: Variant, value: str) -> Variant:
    if value not in STORAGES:
        raise user_error("request.unknown_choice", field="storage", value=value, allowed=", ".join(STORAGES))
    return replace(variant, loading=replace(variant.loading, storage=value))


def _heads(variant: Variant, value: str) -> Variant:
    return replace(variant, loading=replace(variant.loading, heads=_number("heads", value, 128)))


def _references(variant: Variant, value: str) -> Variant:
    return replace(variant, references=_number("references", value, MAX_EXTRA_PHOTOS + 1))


def _number(name: str, value: str, most: int) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= most:
        raise user_error("request.out_of_range", field=name, value=value, least=1, most=most)
    return int(value)


_SPECIAL: dict[str, Callable[[Variant, str], Variant]] = {
    "storage": _storage,
    "heads": _heads,
    "references": _references,
}
