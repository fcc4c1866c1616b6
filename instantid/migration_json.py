"""The JSON text of a notebook, changed in the cells that are repaired and nowhere else.

The text is not written anew: whatever is not replaced stays byte for byte, whoever wrote it and however.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from instantid.migration_cells import Cell

Span = tuple[int, int]

WHITESPACE = re.compile(r"[ \t\r\n]*")
BYTE_ORDER_MARK = "\ufeff"
_decode = json.JSONDecoder().raw_decode


def code_cells(text: str) -> list[Cell]:
    """The code cells of a notebook (nbformat 4), numbered among all of its cells."""
    return [Cell(number, _joined(text, parts["source"])) for number, parts in _code_cells(text)]


def with_sources(text: str, sources: Mapping[int, str]) -> str:
    """The notebook with these sources, by number of the cell. Outputs belong to the old code and go."""
    replacements: list[tuple[Span, str]] = []
    for number, parts in _code_cells(text):
        if number not in sources:
            continue
        source = sources[number]
        as_lines = text[parts["source"][0]] == "["
        new = {
            "source": source.splitlines(keepends=True) if as_lines else source,
            "outputs": [],
            "execution_count": None,
        }
        replacements += [(parts[key], _written(text, parts[key], value)) for key, value in new.items() if key in parts]
    for (start, end), new_text in sorted(replacements, reverse=True):
        text = text[:start] + new_text + text[end:]
    return text


def _code_cells(text: str) -> Iterator[tuple[int, dict[str, Span]]]:
    """Number and members of every code cell."""
    notebook = _members(text, _skip(text, len(BYTE_ORDER_MARK) if text.startswith(BYTE_ORDER_MARK) else 0))
    for number, (start, _) in enumerate(_elements(text, notebook["cells"][0]), start=1):
        parts = _members(text, start)
        if _decode(text, parts["cell_type"][0])[0] == "code":
            yield number, parts


def _members(text: str, start: int) -> dict[str, Span]:
    """Where the values of the object that starts here stand."""
    found = {}
    at = _skip(text, start + 1)
    while text[at] != "}":
        key, at = _decode(text, at)
        value = _skip(text, _skip(text, at) + 1)
        end = _decode(text, value)[1]
        found[key] = (value, end)
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


def _elements(text: str, start: int) -> Iterator[Span]:
    """Where the elements of the array that starts here stand."""
    at = _skip(text, start + 1)
    while text[at] != "]":
        end = _decode(text, at)[1]
        yield at, end
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _joined(text: str, span: Span) -> str:
    source = _decode(text, span[0])[0]
    return source if isinstance(source, str) else "".join(source)


def _written(text: str, place: Span, value: object) -> str:
    """`value` as JSON, laid out as the text around it is."""
    unit = re.match(r"\s*\{\s*?\n([ \t]+)", text.removeprefix(BYTE_ORDER_MARK))
    escaped = text.isascii() and "\\u" in text
    written = json.dumps(value, ensure_ascii=escaped, indent=unit and unit[1])
    line_start = text.rfind("\n", 0, place[0]) + 1
    margin = WHITESPACE.match(text, line_start)[0] if unit else ""
    line_break = "\r\n" if "\r\n" in text else "\n"
    return written.replace("\n", line_break + margin)


def _skip(text: str, at: int) -> int:
    return WHITESPACE.match(text, at).end()
