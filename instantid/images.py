"""Photographs in, sizes and places out: reading what people upload, and the arithmetic of the output canvas.

Points and boxes are x, y in pixels; sizes are (width, height).
"""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from instantid.messages import user_error
from ip_adapter.errors import InstantIDError

ImageSource = str | Path | Image.Image | np.ndarray  # what `open_photo` takes

MAX_FILE_BYTES = 50_000_000
MAX_PIXELS = 80_000_000  # decoded; a large JPEG is decoded at a fraction of its size
MAX_JPEG_PIXELS = 250_000_000  # in the file: phones take 200 million
MAX_SIDE = 4096  # pixels kept of the longer side: plenty for a face, little memory
LEAST_NOT_SQUARE = 512  # side of the smallest base that knows other shapes than its square
LONGEST_TO_SHORTEST = 2.0  # of an output picture; SDXL knows nothing wider
ROOM_AROUND_FACE = 1.2  # the face box with some air must fit the canvas


def open_photo(source: ImageSource) -> Image.Image:
    """A photo in any form -> RGB picture, upright, at most `MAX_SIDE` long.

    Understands EXIF rotation, grey, 16-bit, palette, transparency (laid on white), CMYK and the first frame of an
    animation. Nothing large is decoded before its size is known.

    Args:
        source: path, PIL picture, or array: (h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4); uint8, uint16 or 0 … 1.

    Raises: UserError if it is missing, too large, or no picture.
    """
    if isinstance(source, np.ndarray):
        picture = _from_array(source)
    elif isinstance(source, Image.Image):
        picture = source
    elif isinstance(source, str | Path):
        picture = _from_file(Path(source))
    else:
        raise user_error("photo.other_type", kind=type(source).__name__)
    picture = _as_rgb(ImageOps.exif_transpose(picture))
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return picture


def _from_file(path: Path) -> Image.Image:
    if not os.path.isfile(path):  # unlike Path.is_file, False for a name that no file can have
        raise user_error("photo.missing", path=path)
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise user_error("photo.file_too_large", megabytes=round(size / 1e6), most=round(MAX_FILE_BYTES / 1e6))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of the file; the bounds are ours
            return _decoded(path.read_bytes())
    except InstantIDError:
        raise
    except Image.DecompressionBombError as error:
        raise user_error("photo.too_many_pixels", width="?", height="?", most=MAX_PIXELS // 10**6) from error
    except Exception as error:  # every format has its own
        raise user_error("photo.unreadable", name=path.name, size=size) from error


def _decoded(content: bytes) -> Image.Image:
    """The first picture of a file's content; its size is checked before and after shrinking, then it is decoded."""
    is_jpeg = content.startswith(b"\xff\xd8")  # PIL's own bound would refuse one before it can be shrunk
    picture = JpegImageFile(io.BytesIO(content)) if is_jpeg else Image.open(io.BytesIO(content))
    width, height = picture.size
    picture.draft("RGB", (MAX_SIDE, MAX_SIDE))  # JPEG only: decode at 1/2, 1/4 or 1/8
    if width * height > MAX_JPEG_PIXELS or picture.width * picture.height > MAX_PIXELS:
        raise user_error("photo.too_many_pixels", width=width, height=height, most=MAX_PIXELS // 10**6)
    picture.load()
    picture.getexif()  # kept from here on; PIL would write it anew when it turns the picture, and fails on odd ones
    picture.info.pop("exif", None)
    return picture


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise user_error("photo.array_shape", shape=array.shape)
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind not in "fb":
        raise user_error("photo.other_type", kind=f"array {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == np.uint16:
        array = array >> 8
    elif array.dtype != np.uint8:
        array = np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255
    return Image.fromarray(array.astype(np.uint8))


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 bits and more a pixel: PIL would cut, not scale
        values = np.nan_to_num(np.array(picture, dtype=np.float32))
        ranges = [65535.0] if picture.mode.startswith("I;16") else [1.0, 255.0, 65535.0]
        white = next((top for top in ranges if values.max() <= top), ranges[-1])
        values *= 255 / white
        picture = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")  # a copy: what a caller passed is never changed


def output_size(photo_size: tuple[int, int], native: int) -> tuple[int, int]:
    """The size to generate at, from a photo's proportions: about `native`² pixels, sides multiples of native / 16.

    Exactly square is avoided: at 1024 × 1024 SDXL tends to draw the watermarks of its training pictures. A base much
    smaller than SDXL, such as the project's own small bundle, knows squares alone.
    """
    if native < LEAST_NOT_SQUARE:
        return native, native
    unit = native // 16
    ratio = min(max(photo_size[0] / photo_size[1], 1 / LONGEST_TO_SHORTEST), LONGEST_TO_SHORTEST)
    width = round(native * ratio**0.5 / unit) * unit
    height = round(native / ratio**0.5 / unit) * unit
    while width * height > native**2 or max(width, height) > LONGEST_TO_SHORTEST * min(width, height):
        width, height = (width - unit, height) if width > height else (width, height - unit)
    if width == height:
        width, height = width - unit, height + unit
    return width, height


@dataclass(frozen=True)
class Placement:
    """Where a photo lies on the output canvas: canvas = photo × scale + (left, top)."""

    scale: float
    left: float
    top: float

    def points(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) photo points -> canvas points."""
        return np.asarray(points, dtype=np.float64) * self.scale + (self.left, self.top)

    def box(self, box: np.ndarray) -> np.ndarray:
        """(x1, y1, x2, y2) in the photo -> in the canvas."""
        return self.points(np.asarray(box).reshape(2, 2)).reshape(4)


def place(photo_size: tuple[int, int], canvas: tuple[int, int], box: np.ndarray) -> Placement:
    """Lay a photo over the canvas: it covers the canvas, the face as near the middle as that allows.

    A face that covering would cut off is made smaller instead, until it fits with some air.
    """
    cover = max(canvas[0] / photo_size[0], canvas[1] / photo_size[1])
    face = np.maximum(np.asarray(box[2:]) - np.asarray(box[:2]), 1)
    scale = min(cover, *(np.asarray(canvas) / (face * ROOM_AROUND_FACE)))
    centre = (np.asarray(box[:2]) + np.asarray(box[2:])) / 2 * scale
    offsets = []
    for side in (0, 1):
        slack = canvas[side] - photo_size[side] * scale  # negative where the photo hangs over
        offsets.append(min(max(canvas[side] / 2 - centre[side], min(slack, 0)), max(slack, 0)))
    return Placement(float(scale), float(offsets[0]), float(offsets[1]))


def clamped_box(box: np.ndarray, size: tuple[int, int], margin: float = 0.0) -> tuple[int, int, int, int]:
    """A face box, grown by `margin` of its sides, as whole pixels inside the picture, never empty.

    Detectors give boxes that leave the picture; sliced unclamped they wrap round or vanish.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    grow_x, grow_y = margin * (x2 - x1), margin * (y2 - y1)
    left = min(max(int(np.floor(x1 - grow_x)), 0), size[0] - 1)
    top = min(max(int(np.floor(y1 - grow_y)), 0), size[1] - 1)
    right = max(min(int(np.ceil(x2 + grow_x)), size[0]), left + 1)
    bottom = max(min(int(np.ceil(y2 + grow_y)), size[1]), top + 1)
    return left, top, right, bottom


def region_mask(size: tuple[int, int], box: np.ndarray, margin: float = 0.5) -> Image.Image:
    """`control_mask` of the pipeline: white over the face box and `margin` of its sides around, black elsewhere."""
    mask = Image.new("RGB", size)
    mask.paste((255, 255, 255), clamped_box(box, size, margin))
    return mask
