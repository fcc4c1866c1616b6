"""A contact sheet of the face world: a row for each person, a column for each of their scenes.

python -m training.face_world --output sheet.png [--people 8] [--columns 8] [--size 192] [--seed 0] [--show-points]
                              [--captions]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from instantid.messages import explain, system_language
from ip_adapter.errors import InstantIDError
from training.face_world import captions, people, render, scenes

POINT_COLOURS = ("red", "green", "blue", "yellow", "magenta")


def contact_sheet(rows: int, columns: int, size: int, seed: int, show_points: bool) -> tuple[Image.Image, list[str]]:
    """The sheet, and the captions of its pictures from left to right and top to bottom.

    Raises: UserError for a size or numbers that cannot be drawn.
    """
    persons = people(range(rows), seed).repeat_interleave(columns, 0)
    shown = scenes(range(rows * columns), seed)
    rendering = render(persons, shown, size)
    pixels = (rendering.picture.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    sheet = Image.new("RGB", (columns * size, rows * size))
    for i, picture in enumerate(pixels):
        tile = Image.fromarray(picture)
        if show_points:
            _mark(tile, rendering.key_points[i].tolist(), rendering.box[i].tolist())
        sheet.paste(tile, (i % columns * size, i // columns * size))
    return sheet, captions(shown, seed)


def _mark(picture: Image.Image, points: list[list[float]], box: list[float]) -> None:
    draw, radius = ImageDraw.Draw(picture), max(picture.width // 80, 1)
    draw.rectangle(box, outline="white")
    for (x, y), colour in zip(points, POINT_COLOURS, strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.face_world",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="picture file to write")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--columns", type=int, default=8, help="scenes of each person")
    parser.add_argument("--size", type=int, default=192, help="side of each picture in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show-points", action="store_true", help="mark key points and boxes")
    parser.add_argument("--captions", action="store_true", help="print the captions")
    options = parser.parse_args(arguments)
    try:
        sheet, texts = contact_sheet(options.people, options.columns, options.size, options.seed, options.show_points)
    except InstantIDError as error:
        print(f"❌ {explain(error, system_language())}", file=sys.stderr)
        return 2
    sheet.save(options.output)
    if options.captions:
        print(*texts, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
