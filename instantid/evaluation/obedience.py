"""Obedience: does the picture show the style, background, expression and hair that the prompt names?

A classifier tells; the bundle brings it as `scoring/traits.onnx`. Its input is a batch of RGB pictures (b, 3, h, w) in
-1 … 1, each of its outputs (b, classes) is named after a trait, and the file's metadata holds the names of the classes:
trait -> JSON list.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from instantid.messages import user_error

TRAITS = ("style", "background", "expression", "hair")


class TraitClassifier:
    """Tells the traits of a picture.

    Attributes:
        classes: trait -> names of its classes.

    Raises: UserError if the file is not such a classifier.
    """

    def __init__(self, file: Path) -> None:
        import onnxruntime

        try:
            self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            (given,) = self._session.get_inputs()
            self._name, self._size = given.name, (int(given.shape[3]), int(given.shape[2]))
            told = self._session.get_modelmeta().custom_metadata_map
            outputs = [output.name for output in self._session.get_outputs()]
            self.classes = {trait: list(json.loads(told[trait])) for trait in TRAITS if trait in outputs}
        except Exception as error:  # onnxruntime has its own types
            raise user_error("evaluate.traits_unusable", file=file, reason=type(error).__name__) from error

    def traits(self, picture: Image.Image) -> dict[str, str]:
        """Trait -> the class that the picture shows most clearly."""
        resized = picture.convert("RGB").resize(self._size, Image.Resampling.LANCZOS)
        pixels = np.asarray(resized, dtype=np.float32) / 127.5 - 1
        outputs = self._session.run(list(self.classes), {self._name: pixels.transpose(2, 0, 1)[None]})
        return {
            trait: names[int(np.ravel(output).argmax())]
            for (trait, names), output in zip(self.classes.items(), outputs)
        }
