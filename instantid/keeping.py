"""What outlives a session, in one folder that a person names: weights, pictures, and what was last set on the page.

<folder>/weights/        a bundle, see `instantid.bundle`
<folder>/results/        pictures, each with its settings inside
<folder>/settings.json   see `instantid.settings`

In Colab the folder lies on Google Drive; anywhere else it is a folder like any other.
"""

import errno
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from instantid.bundle import open_bundle, readable_size
from instantid.messages import DEFAULT_LANGUAGE, UserError, machine_error, say
from instantid.weights import default_folder

DRIVE = Path("/content/drive")  # where Colab mounts Google Drive


@dataclass(frozen=True)
class Keeping:
    """Where things are kept."""

    weights: Path  # `folder` of `obtain_bundle` and `load_models`
    results: Path  # `output_folder` of `create_demo`
    settings: Path | None  # `settings_file` of `create_demo`; None = settings are not kept


def keep_in(
    folder: str | Path | None, language: str = DEFAULT_LANGUAGE, write: Callable[[str], None] = print
) -> Keeping:
    """The places in `folder`, which is made if need be, and a line on what an earlier session left there.

    Args:
        folder: None keeps things where they always are: weights in `default_folder()`, pictures in outputs/.
        language: of the line.
        write: takes it; without a folder there is none.

    Raises: MachineError if `folder` cannot be written to or read.
    """
    if folder is None:
        return Keeping(default_folder(), Path("outputs"), None)
    folder = Path(folder).expanduser().absolute()
    if DRIVE in folder.parents and not (DRIVE / "MyDrive").is_dir():
        raise machine_error("keeping.drive_not_mounted", folder=folder)
    keeping = Keeping(folder / "weights", folder / "results", folder / "settings.json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
        found = _found(keeping, language)
    except (FileExistsError, NotADirectoryError) as error:
        raise machine_error("keeping.not_a_folder", folder=folder) from error
    except OSError as error:
        key = "keeping.full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "keeping.cannot_use"
        raise machine_error(key, folder=folder, reason=error.strerror or type(error).__name__) from error
    write(say("keeping.found" if found else "keeping.new", language, folder=folder, found=" · ".join(found)))
    return keeping


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
