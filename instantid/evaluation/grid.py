"""A sheet of pictures: for one case of each of the first people the photo, the pose and what each row made of them."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw, ImageFont, ImageOps

from instantid.evaluation.run import Evaluation
from instantid.images import open_photo
from instantid.messages import say

TILE = 160  # pixels; the longer side of a picture
GAP = 6
FONT_SIZE = 12
LINE = 15  # pixels of a line of text
LETTERS = 24  # in a line above a tile
MOST_ROWS, MOST_COLUMNS = 12, 24
PAPER, INK = "white", "black"


def grid(evaluation: Evaluation, language: str) -> Image.Image:
    """The sheet. Where there are few people, further pictures of each follow."""
    rows = evaluation.rows[:MOST_COLUMNS]
    names = [say("evaluate.reference", language), say("evaluate.pose", language)]
    names += [row.variant.name or say("evaluate.plain", language) for row in rows]
    heads = [textwrap.wrap(name, LETTERS) for name in names]
    head = LINE * max(map(len, heads)) + GAP
    shown = _shown(evaluation)
    width, height = len(names) * (TILE + GAP) + GAP, head + len(shown) * (TILE + LINE + 2 * GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for column, lines in enumerate(heads):
        for line, text in enumerate(lines):
            pen.text((GAP + column * (TILE + GAP), GAP + line * LINE), text, INK, font)
    for place, index in enumerate(shown):
        top = head + place * (TILE + LINE + 2 * GAP)
        case = evaluation.rows[0].cases[index]
        person = evaluation.subjects.people[case.person]
        pictures = [open_photo(person.references[0]), open_photo(evaluation.subjects.pose(case))]
        pictures += [open_photo(row.files[index]) for row in rows]
        for column, picture in enumerate(pictures):
            tile = ImageOps.pad(picture, (TILE, TILE), Image.Resampling.LANCZOS, color=PAPER)
            sheet.paste(tile, (GAP + column * (TILE + GAP), top + GAP))
        text = f"{person.name} · {evaluation.plan.prompts[case.prompt].text}"
        letters = (width - 2 * GAP) * LETTERS // TILE
        pen.text((GAP, top + GAP + TILE), textwrap.shorten(text, letters, placeholder=" …"), INK, font)
    return sheet


def _shown(evaluation: Evaluation) -> list[int]:
    """Numbers of the cases that have a place: the first of each person, then the second …"""
    count, cases = evaluation.plan.count, len(evaluation.rows[0].cases)
    in_turn = sorted(range(cases), key=lambda index: (index % count, index // count))
    return sorted(in_turn[:MOST_ROWS])
