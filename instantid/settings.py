"""What was last set on the page, in a JSON file: its language, and a `GenerationRequest` without its photos."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from instantid.messages import LANGUAGES
from instantid.request import GenerationRequest, Note

MAX_BYTES = 1_000_000  # the two longest texts that a request takes need a tenth of it


@dataclass(frozen=True)
class Settings:
    """What was last set on a page, as far as it can be used."""

    fields: dict[str, Any] = field(default_factory=dict)  # of a `GenerationRequest`, each as it is checked
    language: str | None = None
    problem: Note | None = None  # what could not be used, to be said once


def write_settings(file: Path, request: GenerationRequest, language: str) -> None:
    """Keep what was set, whole or not at all. Raises: OSError."""
    partial = file.with_name(f"{file.name}.part")
    partial.write_text(json.dumps(request.settings() | {"language": language}, indent=2), encoding="utf-8")
    partial.replace(file)


def read_settings(file: Path | None) -> Settings:
    """What `write_settings` kept. Nothing in the file is trusted, and nothing in it raises: see `Settings.problem`."""
    if file is None:
        return Settings()
    defaults = GenerationRequest(face=None, prompt="").settings()
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        kept = json.loads(content) if len(content) <= MAX_BYTES else None
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, RecursionError):
        kept = None
    if not isinstance(kept, dict) or kept.keys().isdisjoint(defaults):
        return Settings(problem=Note("keeping.settings_unreadable", {"file": file}))

    usable: dict[str, Any] = {}
    unusable = []
    for names in (("width", "height"), *((name,) for name in defaults if name not in ("width", "height"))):
        given = {name: kept[name] for name in names if name in kept}
        checked = _checked(given, defaults)
        usable |= checked
        unusable += [name for name in given if name not in checked]
    language = kept.get("language")
    if language not in (None, *LANGUAGES):
        language = None
        unusable.append("language")
    facts = {"file": file, "names": ", ".join(unusable)}
    return Settings(usable, language, Note("keeping.settings_unusable", facts) if unusable else None)


def _checked(given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """`given` fields as a request has them once it is checked; nothing if it refuses them."""
    if all(value == defaults[name] for name, value in given.items()):
        return {name: defaults[name] for name in given}  # an empty prompt or seed is a beginning, if no request
    try:
        request = replace(GenerationRequest(face="photo", prompt="prompt"), **given).checked()
        checked = {name: getattr(request, name) for name in given}
        "".join(map(str, checked.values())).encode()  # half a character, which no page could show, raises
    except (ValueError, RecursionError):
        return {}
    return checked
