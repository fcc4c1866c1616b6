"""The project in one file, for people without a repository: a self-contained notebook, and a zip for the first cell.

`python -m instantid pack` writes both to `dist/`. The same code always gives the same bytes.
"""

from __future__ import annotations

import base64
import io
import json
import textwrap
import zipfile
from pathlib import Path

from instantid.messages import user_error
from instantid.probe import ROOT

NOTEBOOK = "InstantID_Gradio.ipynb"
ARCHIVE = "InstantID.zip"
TOP = "InstantID"  # the folder inside the archive; the notebook's first cell looks one folder deep
PARTS = (
    "instantid",
    "ip_adapter",
    "pipeline_stable_diffusion_xl_instantid.py",
    "requirements.txt",
    "LICENSE",
    NOTEBOOK,
)
OLDEST_DATE = (1980, 1, 1, 0, 0, 0)  # a zip knows no earlier one; the true dates would change its bytes
LINE = 120  # characters of base64 on a line: editors stumble over one of 200,000

UNPACK = """\
# @title 0 · Código · Code {{ display-mode: "form" }}
# El código del proyecto viaja en esta celda y se desempaqueta en la carpeta {top}.
# The project's code travels in this cell and is unpacked to the folder {top}.
import base64
import io
import zipfile

CODE = \"\"\"
{code}
\"\"\"
zipfile.ZipFile(io.BytesIO(base64.b64decode(CODE))).extractall(".")
print("📦 {top}")
"""


def code_archive(root: Path = ROOT) -> bytes:
    """A zip of everything that the notebook needs, below one folder `TOP`. Raises: UserError if a part is missing."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as writer:
        for file in _files(root):
            entry = zipfile.ZipInfo(f"{TOP}/{file.relative_to(root).as_posix()}", OLDEST_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            writer.writestr(entry, file.read_bytes())
    return archive.getvalue()


def self_contained(notebook: dict, archive: bytes) -> dict:
    """`notebook` (nbformat 4) with a first code cell that unpacks `archive` beside it."""
    lines = "\n".join(textwrap.wrap(base64.b64encode(archive).decode("ascii"), LINE))
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": "unpack",
        "metadata": {"cellView": "form"},
        "outputs": [],
        "source": UNPACK.format(top=TOP, code=lines).splitlines(keepends=True),
    }
    cells = notebook["cells"]
    first = next(index for index, other in enumerate(cells) if other["cell_type"] == "code")
    return notebook | {"cells": [*cells[:first], cell, *cells[first:]]}


def pack(folder: Path, root: Path = ROOT) -> tuple[Path, Path]:
    """Writes the self-contained notebook and the zip to `folder`; returns both files.

    Raises: UserError if a part of the project is missing, OSError if `folder` cannot be written.
    """
    archive = code_archive(root)
    notebook = self_contained(json.loads((root / NOTEBOOK).read_text(encoding="utf-8")), archive)
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / NOTEBOOK, folder / ARCHIVE
    files[0].write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    files[1].write_bytes(archive)
    return files


def _files(root: Path) -> list[Path]:
    """The files of `PARTS`, in an order that does not depend on the disk."""
    files: list[Path] = []
    for part in PARTS:
        place = root / part
        if not place.exists():
            raise user_error("pack.missing", part=part, folder=root)
        files += sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return files
