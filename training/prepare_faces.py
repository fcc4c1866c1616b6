"""A folder of pictures becomes training data: the face of each, with its caption and its person.

`python -m training.prepare_faces --pictures FOLDER --bundle FOLDER --output FOLDER`

Whoever is stopped starts the same command again: what is in the index is not analysed twice.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from instantid.bundle import repair_face_pack
from instantid.faces import PROVIDERS, Face, FaceAnalyser
from instantid.images import open_photo
from instantid.messages import explain, say, system_language, user_error
from ip_adapter.errors import InstantIDError
from training.face_index import FACES, SKIPPED, FaceRecord, to_row
from training.journal import append_row, keep_rows, read_rows

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
CAPTION_COLUMNS = ("text", "caption", "prompt")  # of a metadata.jsonl, in the order of preference
LINE_EVERY = 100  # pictures


@dataclass(frozen=True)
class Prepared:
    """What a prepared folder holds, earlier runs included."""

    pictures: int  # with a face
    people: int
    people_with_several: int  # of whom identity and picture can come from two photos
    without_caption: int
    skipped: int


def prepare_faces(
    pictures: Path, face_pack: Path, output: Path, faces_on: str = "cpu", write: Callable[[str], None] = print
) -> Prepared:
    """Find the largest face of every picture below `pictures`, and write the index to `output`.

    Pictures that cannot be read or hold no face are listed in `skipped.jsonl` with the reason.

    Args:
        pictures: captions lie beside the pictures: `name.txt` for `name.jpg`, or rows of a `metadata.jsonl` as
            🤗 datasets' imagefolder has it (`file_name` and `text`, optionally `person`). A sub-folder is one person;
            a picture outside of sub-folders is a person of its own.
        face_pack: folder of the two .onnx files.
        faces_on: "cpu" or "cuda".
        write: takes a line now and then, in the language of the machine.

    Raises: UserError if there are no pictures, or the face models cannot be used.
    """
    files = picture_files(pictures)
    if not files:
        raise user_error("training.no_pictures", folder=pictures, suffixes=" ".join(sorted(PICTURE_SUFFIXES)))
    output.mkdir(parents=True, exist_ok=True)
    faces, skipped = output / FACES, output / SKIPPED
    for index in (faces, skipped):
        keep_rows(index, lambda row: True)
    done = {row["file"] for index in (faces, skipped) for row in read_rows(index)}
    metadata = read_metadata(pictures)
    analyser = FaceAnalyser(face_pack, faces_on)
    language = system_language()
    for number, file in enumerate(files, 1):
        name = Path(os.path.relpath(file, output)).as_posix()
        if name not in done:
            try:
                face = analyser.analyse(open_photo(file))
            except InstantIDError as error:
                append_row(skipped, {"file": name, "code": error.code, "reason": explain(error, language)})
            else:
                append_row(faces, to_row(_record(name, file, pictures, face, metadata.get(file, {}))))
        if number % LINE_EVERY == 0 or number == len(files):
            write(say("training.preparing", language, done=number, total=len(files)))
    return _summary(faces, skipped)


def picture_files(folder: Path) -> list[Path]:
    """Every picture below `folder`, hidden ones left out, in the order of their names."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in PICTURE_SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def read_metadata(folder: Path) -> dict[Path, dict]:
    """Picture -> its row, of every `metadata.jsonl` below `folder`.

    Raises: UserError naming the first line that is no row.
    """
    rows = {}
    for table in folder.rglob("metadata.jsonl"):
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line or "{}")
                if row:
                    rows[table.parent / row["file_name"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise user_error("training.bad_metadata", file=table, line=number) from error
    return rows


def _record(name: str, file: Path, pictures: Path, face: Face, row: dict) -> FaceRecord:
    text = file.with_suffix(".txt")
    captions = [text.read_text(encoding="utf-8")] if text.is_file() else []
    captions += [str(row[column]) for column in CAPTION_COLUMNS if row.get(column)]
    folder = file.parent.relative_to(pictures).as_posix()
    return FaceRecord(
        file=name,
        caption=" ".join(captions[0].split()) if captions else "",
        person=str(row.get("person") or (name if folder == "." else folder)),
        size=face.photo_size,
        key_points=face.key_points,
        box=face.box,
        embedding=face.embedding,
    )


def _summary(faces: Path, skipped: Path) -> Prepared:
    captions, people = [], Counter()
    for row in read_rows(faces):
        captions.append(row["caption"])
        people[row["person"]] += 1
    return Prepared(
        pictures=len(captions),
        people=len(people),
        people_with_several=sum(count > 1 for count in people.values()),
        without_caption=captions.count(""),
        skipped=sum(1 for _ in read_rows(skipped)),
    )


def _report(prepared: Prepared, output: Path, language: str) -> Iterator[str]:
    yield say("training.prepared", language, output=output, **vars(prepared))
    if prepared.without_caption:
        yield say("training.without_caption", language, count=prepared.without_caption)
    if prepared.skipped:
        yield say("training.skipped", language, count=prepared.skipped, file=output / SKIPPED)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.prepare_faces", description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures and captions")
    parser.add_argument("--bundle", type=Path, required=True, help="folder that holds antelopev2/")
    parser.add_argument("--output", type=Path, required=True, help="folder for the index")
    parser.add_argument("--faces-on", choices=tuple(PROVIDERS), default="cpu", help="where faces are analysed")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    language = system_language()
    try:
        pack = repair_face_pack(arguments.bundle / "antelopev2")
        prepared = prepare_faces(arguments.pictures, pack, arguments.output, arguments.faces_on)
    except InstantIDError as error:
        print(f"❌ {explain(error, language)}", file=sys.stderr)
        return 2
    print(*_report(prepared, arguments.output, language), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
