"""A photo becomes a face: identity embedding, five key points, box. Through insightface, 0.7.3 and 1.0 onwards.

The detector is asked for its sizes call by call (`detect(input_size=…)`), because the two generations of insightface
forget different ways of setting it once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instantid.images import clamped_box
from instantid.messages import user_error
from instantid.probe import load_cuda_libraries
from ip_adapter.recent import Recent

logger = logging.getLogger(__name__)

# Large faces are found only at small sizes, small faces only at large ones. The first two are always asked, so that a
# passer-by in the background is not taken for the person who fills the photo; the others when those find nobody.
FIRST_SIZES = (640, 256)
FURTHER_SIZES = (512, 384, 192, 128)
SAME_FACE = 0.4  # overlap (intersection over union) of two boxes of one face
PADDING = 0.5  # of each side, when nothing was found: faces that fill the photo
EMBEDDING_WIDTH = 512
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RECENT_PHOTOS = 16  # whose faces are remembered
PICTURE_MARGIN = 0.3  # of the face box, around the face shown to the person


@dataclass(frozen=True, eq=False)
class Face:
    """One face of one photo."""

    embedding: np.ndarray  # (512,) float32, raw: not normalised
    key_points: np.ndarray  # (5, 2) x, y in the photo: left eye, right eye, nose, left and right corner of the mouth
    box: np.ndarray  # (4,) x1, y1, x2, y2; may leave the photo
    score: float  # of the detector, 0 … 1
    index: int  # rank by size among the faces of the photo, 0 = largest
    count: int  # faces in the photo
    photo_size: tuple[int, int]  # width, height

    def picture(self, photo: Image.Image) -> Image.Image:
        """The part of the photo around this face."""
        return photo.crop(clamped_box(self.box, photo.size, PICTURE_MARGIN))


class Recogniser:
    """A face recogniser by itself, in ArcFace's form: an aligned crop of 112 × 112 pixels -> 512 numbers.

    Raises: UserError if insightface cannot read the file.
    """

    def __init__(self, file: Path) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                from insightface.model_zoo import get_model

                self._model = get_model(str(file), providers=[PROVIDERS["cpu"]])
        except ImportError:
            raise
        except Exception as error:
            raise user_error("faces.pack_unusable", folder=file, reason=type(error).__name__) from error
        if getattr(self._model, "taskname", None) != "recognition":
            raise user_error("faces.no_recogniser", folder=file)

    def embedding(self, photo: Image.Image, key_points: np.ndarray) -> np.ndarray:
        """(512,) raw, of the face with these five points (5, 2)."""
        return _embedding(self._model, photo, key_points)


class FaceAnalyser:
    """Detector and recogniser of one face pack.

    Args:
        face_pack: the folder that directly holds the two .onnx files.
        device: "cpu" (a fraction of a second, no GPU memory) or "cuda".

    Attributes:
        provider: the onnxruntime provider that really runs: it falls back to the CPU without a word.
    """

    def __init__(self, face_pack: Path, device: str = "cpu") -> None:
        if device not in PROVIDERS:
            raise user_error("request.unknown_choice", field="faces_on", value=device, allowed=", ".join(PROVIDERS))
        if not Path(face_pack).is_dir():  # insightface would go and download one
            raise user_error("faces.pack_unusable", folder=face_pack, reason=FileNotFoundError.__name__)
        asked = PROVIDERS[device]
        if device == "cuda":
            load_cuda_libraries()
        try:
            with contextlib.redirect_stdout(io.StringIO()) as said:  # insightface prints each model it finds
                import onnxruntime
                from insightface.app import FaceAnalysis

                there = onnxruntime.get_available_providers()
                self._app = FaceAnalysis(
                    name=str(Path(face_pack).resolve()),
                    allowed_modules=["detection", "recognition"],
                    providers=[name for name in dict.fromkeys([asked, PROVIDERS["cpu"]]) if name in there],
                )
                self._app.prepare(ctx_id=0 if device == "cuda" else -1, det_size=(FIRST_SIZES[0],) * 2)
        except ImportError:
            raise
        except Exception as error:  # insightface asserts, onnxruntime has its own types
            raise user_error("faces.pack_unusable", folder=face_pack, reason=type(error).__name__) from error
        logger.debug("insightface: %s", said.getvalue())
        if "recognition" not in self._app.models:
            raise user_error("faces.no_recogniser", folder=face_pack)
        self._recent: Recent[Face] = Recent(RECENT_PHOTOS)
        self.provider: str = self._app.models["recognition"].session.get_providers()[0]
        if self.provider != asked:
            logger.warning("face analysis was asked to run on %s and runs on %s", asked, self.provider)

    def find(self, photo: Image.Image) -> list[Face]:
        """Every face of the photo, largest first; empty if there is none. Slower than `analyse` for many faces."""
        boxes, points = self._detect(_bgr(photo))
        return [self._face(photo, boxes, points, i) for i in range(len(boxes))]

    def analyse(self, photo: Image.Image, index: int = 0) -> Face:
        """Face number `index` of the photo, 0 = largest.

        A photo that was analysed lately is not analysed again.

        Raises: UserError if there is no face, or fewer than asked for.
        """
        key = (hashlib.blake2b(photo.tobytes()).digest(), photo.size, photo.mode, index)
        return self._recent.get(key, lambda: self._analyse(photo, index))

    def _analyse(self, photo: Image.Image, index: int) -> Face:
        boxes, points = self._detect(_bgr(photo))
        if len(boxes) == 0:
            raise user_error("faces.none", width=photo.width, height=photo.height)
        if not 0 <= index < len(boxes):
            raise user_error("faces.no_such_index", index=index, count=len(boxes), last=len(boxes) - 1)
        return self._face(photo, boxes, points, index)

    def _face(self, photo: Image.Image, boxes: np.ndarray, points: np.ndarray, index: int) -> Face:
        embedding = _embedding(self._app.models["recognition"], photo, points[index])
        arrays = embedding, points[index].astype(np.float64), boxes[index, :4].astype(np.float64)
        for array in arrays:
            array.setflags(write=False)  # it is remembered, and whoever asks next gets the same
        return Face(
            *arrays,
            score=float(boxes[index, 4]),
            index=index,
            count=len(boxes),
            photo_size=photo.size,
        )

    def _detect(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 5) with scores and key points (n, 5, 2), largest face first, in the photo's pixels."""
        boxes, points = self._detect_at_all_sizes(bgr)
        if len(boxes) == 0:
            pad_y, pad_x = (int(side * PADDING) for side in bgr.shape[:2])
            padded = np.pad(bgr, ((pad_y, pad_y), (pad_x, pad_x), (0, 0)))
            boxes, points = self._detect_at_all_sizes(padded)
            boxes, points = boxes - [pad_x, pad_y, pad_x, pad_y, 0], points - [pad_x, pad_y]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        order = np.argsort(-areas, kind="stable")
        return boxes[order], points[order]

    def _detect_at_all_sizes(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes, points = self._detect_at(bgr, FIRST_SIZES[0])
        more_boxes, more_points = self._detect_at(bgr, FIRST_SIZES[1])
        new = [i for i, box in enumerate(more_boxes) if not (_overlaps(box, boxes) > SAME_FACE).any()]
        boxes, points = np.concatenate([boxes, more_boxes[new]]), np.concatenate([points, more_points[new]])
        for size in FURTHER_SIZES:
            if len(boxes):
                break
            boxes, points = self._detect_at(bgr, size)
        return boxes, points

    def _detect_at(self, bgr: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        if size * min(bgr.shape[:2]) < max(bgr.shape[:2]):  # a strip, which would shrink to nothing
            return np.zeros((0, 5)), np.zeros((0, 5, 2))
        return self._app.det_model.detect(bgr, input_size=(size, size), max_num=0)


def mean_embedding(faces: Sequence[Face]) -> np.ndarray:
    """One identity (512,) from several photos of one person: the mean of the raw embeddings."""
    return np.mean([face.embedding for face in faces], axis=0)


def _embedding(model: Any, photo: Image.Image, key_points: np.ndarray) -> np.ndarray:
    """(512,) float32 by one of insightface's recognisers."""
    from insightface.app.common import Face as DetectedFace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # insightface's, about scikit-image
        embedding = model.get(_bgr(photo), DetectedFace(kps=key_points))
    if embedding.shape != (EMBEDDING_WIDTH,):
        raise user_error("faces.embedding_width", width=embedding.size, needed=EMBEDDING_WIDTH)
    return embedding.astype(np.float32)


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (5,) with each of others (n, 5)."""
    sides = np.minimum(box[2:4], others[:, 2:4]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(0).prod(axis=1)
    areas = (others[:, 2:4] - others[:, :2]).prod(axis=1)
    return shared / (areas + (box[2:4] - box[:2]).prod() - shared)


def _bgr(photo: Image.Image) -> np.ndarray:
    """insightface follows OpenCV's order of colours."""
    return np.ascontiguousarray(np.asarray(photo)[:, :, ::-1])
