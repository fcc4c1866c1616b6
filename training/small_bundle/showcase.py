"""The picture that shows a bundle in the README: its portraits, and what the app makes of them by its own prompts.

python -m training.small_bundle.showcase --bundle bundles/small --output docs/images/small_bundle.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from instantid.bundle import Bundle, open_bundle
from instantid.generation import generate_image
from instantid.images import open_photo
from instantid.loading import load_bundle
from instantid.messages import explain, system_language, user_error
from instantid.request import GenerationRequest
from ip_adapter.errors import InstantIDError

PEOPLE = 4
TILE = 128  # pixels
GAP = 4
BESIDE = 12  # between a portrait and what was made of it
PAPER = "white"


def showcase(bundle: Bundle, people: int = PEOPLE, seed: int = 1) -> Image.Image:
    """A row for each of the first people of a bundle: the portrait, then a picture for each of its prompts.

    Each picture has the pose of the next person. Settings are the app's own.

    Raises: UserError if it brings no portraits or no prompts; what loading and `generate_image` raise.
    """
    portraits, prompts = bundle.examples()[:people], bundle.prompts()
    if not portraits or not prompts:
        raise user_error("training.nothing_to_show", folder=bundle.folder)
    models = load_bundle(bundle, write=lambda line: None)
    width = TILE + BESIDE + len(prompts) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, len(portraits) * (TILE + GAP) - GAP), PAPER)
    try:
        for row, portrait in enumerate(portraits):
            top, pose = row * (TILE + GAP), portraits[(row + 1) % len(portraits)]
            sheet.paste(_tile(open_photo(portrait)), (0, top))
            for column, prompt in enumerate(prompts):
                request = GenerationRequest(face=portrait, pose=pose, prompt=prompt, seed=seed + row)
                picture = generate_image(models, request).images[0]
                sheet.paste(_tile(picture), (TILE + BESIDE + column * (TILE + GAP), top))
    finally:
        models.release()
    return sheet


def _tile(picture: Image.Image) -> Image.Image:
    return picture if picture.size == (TILE, TILE) else picture.resize((TILE, TILE), Image.Resampling.LANCZOS)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.small_bundle.showcase", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    arguments = parser.parse_args(argv)
    try:
        showcase(open_bundle(arguments.bundle)).save(arguments.output, optimize=True)
    except InstantIDError as error:
        print(f"❌ {explain(error, system_language())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
