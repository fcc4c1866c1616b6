"""What outlives a session, in one folder that a person names: weights, pictures, and what was last set on the page.

<folder>/weights/        a bundle, see `instantid.bundle`
<folder>/results/        pictures, each with its settings inside
<folder>/settings.json   the fields of a `GenerationRequest` but its photos, and the page's language

In Colab the folder lies on Google Drive; anywhere else it is a folder like any other.
"""

import errno
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from instantid.bundle import open_bundle, readable_size
from instantid.messages import DEFAULT_LANGUAGE, LANGUAGES, UserError, machine_error, say
from instantid.request import GenerationRequest, Note
from instantid.weights import default_folder

DRIVE = Path("/content/drive")  # where Colab mounts Google Drive
MAX_SETTINGS_BYTES = 1_000_000  # the two longest texts that a request takes need a tenth of it


@dataclass(frozen=True)
class Keeping:
    """Where things are kept."""

    weights: Path  # `folder` of `obtain_bundle` and `load_models`
    results: Path  # `output_folder` of `create_demo`
    settings: Path | None  # `settings_file` of `create_demo`; None = settings are not kept


@dataclass(frozen=True)
class Settings:
    """What was last set on a page, as far as it can be used."""

    fields: dict[str, Any] = field(default_factory=dict)  # of a `GenerationRequest`, each as it is checked
    language: str | None = None
    problem: Note | None = None  # what could not be used, to be said once


def keep_in(
    folder: str | Path | None, language: str = DEFAULT_LANGUAGE, write: Callable[[str], None] = print
) -> Keeping:
    """The places in `folder`, which is made if need be, and a line on what an earlier session left there.

    Args:
        folder: None keeps things where they always are: weights in `default_folder()`, pictures in outputs/.
        language: of the line.
        write: takes it; without a folder there is none.

    Raises: MachineError if `folder` cannot be written to.
    """
    if folder is None:
        return Keeping(default_folder(), Path("outputs"), None)
    folder = Path(folder).expanduser().absolute()
    _check_writable(folder)
    keeping = Keeping(folder / "weights", folder / "results", folder / "settings.json")
    found = _found(keeping, language)
    write(say("keeping.found" if found else "keeping.new", language, folder=folder, found=" · ".join(found)))
    return keeping


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
            content = stream.read(MAX_SETTINGS_BYTES + 1)
        kept = json.loads(content) if len(content) <= MAX_SETTINGS_BYTES else None
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


def _check_writable(folder: Path) -> None:
    if DRIVE in folder.parents and not (DRIVE / "MyDrive").is_dir():
        raise machine_error("keeping.drive_not_mounted", folder=folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
    except (FileExistsError, NotADirectoryError) as error:
        raise machine_error("keeping.not_a_folder", folder=folder) from error
    except OSError as error:
        key = "keeping.full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "keeping.cannot_write"
        raise machine_error(key, folder=folder, reason=error.strerror or type(error).__name__) from error


def _found(keeping: Keeping, language: str) -> list[str]:
    """What an earlier session left, in words."""
    found = []
    files = [path for path in keeping.weights.rglob("*") if path.is_file() and not path.name.startswith(".")]
    if files:
        size = readable_size(sum(path.stat().st_size for path in files))
        key = "keeping.weights_whole" if _are_whole(keeping.weights, files) else "keeping.weights_partly"
        found.append(say(key, language, size=size))
    pictures = sum(1 for _ in keeping.results.glob("*.png"))
    if pictures:
        found.append(say("keeping.pictures", language, count=pictures))
    if keeping.settings.is_file():
        found.append(say("keeping.settings", language))
    return found


def _are_whole(weights: Path, files: list[Path]) -> bool:
    if any(path.suffix == ".part" for path in files):
        return False
    try:
        open_bundle(weights)
    except UserError as error:
        return error.code == "weights.which_base"  # several base models: which one is wanted is said when loading
    return True
