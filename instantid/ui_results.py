"""Results as files: PNG pictures that carry their own settings. Knows no gradio."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from instantid.request import GenerationResult

SETTINGS_KEY = "instantid"  # name of the PNG text that holds the settings


def picture_settings(result: GenerationResult, index: int) -> dict[str, Any]:
    """What makes picture `index` again, alone: the settings with its own seed and a count of one."""
    settings = result.settings() | {"seed": result.seeds[index], "count": 1}
    return {name: value for name, value in settings.items() if name != "seeds"}


def save_pictures(result: GenerationResult, folder: Path) -> list[Path]:
    """Writes each picture as PNG with its settings (JSON under the text key `SETTINGS_KEY`); returns the files.

    The names hold local time to the microsecond and the seed, so that runs never overwrite each other. Raises: OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    paths = []
    for index, (picture, seed) in enumerate(zip(result.images, result.seeds)):
        text = PngInfo()
        text.add_text(SETTINGS_KEY, json.dumps(picture_settings(result, index)))
        paths.append(folder / f"instantid-{stamp}-seed{seed}.png")
        picture.save(paths[-1], pnginfo=text)
    return paths
