"""One picture is measured: the face in it, whose it is, where it lies, and what the picture shows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from instantid.bundle import Bundle
from instantid.evaluation.identification import rank
from instantid.evaluation.key_points import point_error
from instantid.evaluation.likeness import likeness
from instantid.evaluation.obedience import TraitClassifier
from instantid.faces import Face, FaceAnalyser, Recogniser
from ip_adapter.errors import UserError

RESULT_KEY = "instantid-evaluation"  # name of the PNG text that holds a result


@dataclass(frozen=True)
class Result:
    """What was measured of one picture."""

    likeness: float | None  # cosine; None: no face was found
    rank: int | None  # how many others are at least as alike; 0 = identified
    point_error: float | None  # share of the eye distance
    traits: dict[str, str]  # trait -> what the classifier saw
    seconds: float  # to make it
    is_first: bool  # that was made for its row: it may have taken longer
    peak_vram_gib: float | None
    notes: list[list[Any]] = field(default_factory=list)  # key and facts of each sentence that the run had to say


class Judge:
    """Measures pictures with the models of one bundle.

    Attributes:
        has_own_recogniser: whether likeness is told by another recogniser than the one that the identity comes from.
        classes: trait -> classes that can be told; empty without a classifier.
    """

    def __init__(self, bundle: Bundle, faces: FaceAnalyser) -> None:
        self._faces = faces
        recogniser, traits = bundle.folder / "scoring" / "recogniser.onnx", bundle.folder / "scoring" / "traits.onnx"
        self._recogniser = Recogniser(recogniser) if recogniser.is_file() else None
        self._traits = TraitClassifier(traits) if traits.is_file() else None
        self.has_own_recogniser = self._recogniser is not None
        self.classes: dict[str, list[str]] = self._traits.classes if self._traits else {}

    def face(self, picture: Image.Image) -> Face | None:
        """The largest face; None if there is none."""
        try:
            return self._faces.analyse(picture)
        except UserError as error:
            if error.code != "faces.none":
                raise
            return None

    def embedding(self, picture: Image.Image, face: Face) -> np.ndarray:
        """(512,) raw, of the recogniser that judges."""
        return self._recogniser.embedding(picture, face.key_points) if self._recogniser else face.embedding

    def measure(self, picture: Image.Image, asked: np.ndarray, gallery: np.ndarray, person: int) -> dict[str, Any]:
        """The fields of a `Result` that the picture itself tells.

        Args:
            asked: (5, 2) where the key points should be.
            gallery: (n, 512) templates of everybody; `person` is the row of the right one.
        """
        traits = self._traits.traits(picture) if self._traits else {}
        face = self.face(picture)
        if face is None:
            return {"likeness": None, "rank": None, "point_error": None, "traits": traits}
        embedding = self.embedding(picture, face)
        return {
            "likeness": likeness(embedding, gallery[person]),
            "rank": rank(embedding, gallery, person),
            "point_error": point_error(asked, face.key_points),
            "traits": traits,
        }


def write_result(file: Path, picture: Image.Image, result: Result) -> None:
    """The picture with its result inside, whole or not at all. Raises: OSError."""
    text = PngInfo()
    text.add_text(RESULT_KEY, json.dumps(asdict(result)))
    partial = file.with_suffix(".part")
    picture.save(partial, format="PNG", pnginfo=text)
    partial.replace(file)


def read_result(file: Path) -> Result | None:
    """What `write_result` wrote there; None if it did not."""
    try:
        with Image.open(file) as picture:
            return Result(**json.loads(picture.text[RESULT_KEY]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
