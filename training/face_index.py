"""The index that preparing writes and training reads: one row for each picture in which a face was found.

faces.jsonl      file, caption, person, size, key points, box, embedding
skipped.jsonl    file, reason

Files are named relative to the index's folder, so that pictures and index can move together.
"""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instantid.messages import user_error
from training.journal import Row, read_rows

FACES, SKIPPED = "faces.jsonl", "skipped.jsonl"


@dataclass(frozen=True, eq=False)
class FaceRecord:
    """One picture and its largest face. Points and boxes are x, y in pixels of the upright picture."""

    file: str  # relative to the folder of the index, "/" between folders
    caption: str  # "" where there was none
    person: str  # pictures of one person have the same
    size: tuple[int, int]  # width, height
    key_points: np.ndarray  # (5, 2): left eye, right eye, nose, left and right corner of the mouth
    box: np.ndarray  # (4,) x1, y1, x2, y2
    embedding: np.ndarray  # (512,) float32, raw


def to_row(record: FaceRecord) -> Row:
    """A record as JSON has it; the embedding to the last bit."""
    return {
        "file": record.file,
        "caption": record.caption,
        "person": record.person,
        "size": list(record.size),
        "key_points": np.asarray(record.key_points).round(2).tolist(),
        "box": np.asarray(record.box).round(2).tolist(),
        "embedding": base64.b64encode(record.embedding.astype("<f4").tobytes()).decode("ascii"),
    }


def from_row(row: Row) -> FaceRecord:
    """The record that `to_row` wrote."""
    return FaceRecord(
        file=row["file"],
        caption=row["caption"],
        person=row["person"],
        size=tuple(row["size"]),
        key_points=np.array(row["key_points"]),
        box=np.array(row["box"]),
        embedding=np.frombuffer(
            base64.b64decode(row["embedding"]), dtype="<f4"
        ).copy(),  # writable, as PyTorch wants it
    )


def read_index(folder: Path) -> list[FaceRecord]:
    """Every record of a prepared folder, in the order of the files' names.

    Raises: UserError if there is no index, or nobody in it.
    """
    records = [from_row(row) for row in read_rows(folder / FACES)]
    if not records:
        raise user_error("training.no_faces", file=folder / FACES)
    return sorted(records, key=lambda record: record.file)
