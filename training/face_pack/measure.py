"""What the exported face pack can do with people nobody has seen, through insightface and onnxruntime.

python -m training.face_pack.measure --bundle RUN/bundle [--people 256] [--side 128] [--output figures.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from insightface.model_zoo import get_model
from PIL import Image
from torch import Tensor

from instantid.faces import Face, FaceAnalyser
from instantid.messages import explain, system_language
from ip_adapter.errors import InstantIDError
from training.face_pack.alignment import aligned
from training.face_pack.detector_loss import overlaps
from training.face_pack.export import FILES
from training.face_pack.pool import LABELS, rendered
from training.face_pack.traits import CLASSES, SIDE
from training.face_world import Rendering, scenes, seeds
from training.face_world.backgrounds import backgrounds
from training.face_world.geometry import pixel_middles

SAME_PLACE = 0.5  # overlap (intersection over union) with the true box of a face that was found
ASKED_SIZE = 640  # pixels, of the detector alone
PLACES = 32  # pictures without anyone
CPU = ["CPUExecutionProvider"]


@dataclass(frozen=True)
class Figures:
    """Shares are 0 … 1, errors in distances of the eyes."""

    people: int
    side: int  # of the pictures, pixels
    found: float  # as the app searches, at several sizes
    found_at_once: float  # by the detector asked once, at 640
    surplus: float  # faces seen beside the right one, for each picture
    in_empty_places: float  # faces seen in a picture without anyone
    key_point_error: float  # mean
    key_point_error_95: float  # 95 % of the faces stay below
    top_one: float  # of the recogniser: people who are most alike to themselves in another scene
    top_one_of_scorer: float  # the same of the second recogniser
    embedding_length: float
    traits: dict[str, float]  # share of pictures of which each trait is named rightly
    seconds_per_photo: float  # to find and describe the faces of one


def measure(bundle: Path, people: int = 256, side: int = SIDE) -> Figures:
    """Two pictures, `side` pixels wide, of each of `people` held-out people.

    Raises: UserError if the face pack cannot be used.
    """
    analyser = FaceAnalyser(bundle / Path(FILES["detector"]).parent)
    numbers = torch.arange(2 * people)
    scene = rendered(numbers, numbers % people, side, seeds.FACE_PACK_CHECK, "cpu")
    start = time.perf_counter()
    seen = [analyser.find(photo) for photo in photos(scene.picture)]
    seconds = (time.perf_counter() - start) / len(seen)
    faces = [right_one(some, box) for some, box in zip(seen, scene.box)]
    hits = torch.tensor([face is not None for face in faces])

    detector = get_model(str(bundle / FILES["detector"]), providers=CPU)
    detector.prepare(-1)
    boxes = [detector.detect(bgr, input_size=(ASKED_SIZE, ASKED_SIZE))[0][:, :4] for bgr in bgrs(scene.picture)]
    at_once = [
        bool((overlaps(torch.from_numpy(some), box)[0] > SAME_PLACE).any()) for some, box in zip(boxes, scene.box)
    ]

    said = torch.stack([torch.zeros(5, 2) if face is None else torch.tensor(face.key_points).float() for face in faces])
    errors = point_errors(said, scene.key_points)[hits] if hits.any() else torch.tensor([torch.nan])
    embeddings = torch.stack([torch.zeros(512) if face is None else torch.tensor(face.embedding) for face in faces])
    crops = aligned(scene.picture, torch.where(hits[:, None, None], said, scene.key_points))
    scored = answers(bundle / FILES["scorer"], crops)[0] * hits[:, None]
    return Figures(
        people=people,
        side=side,
        found=float(hits.float().mean()),
        found_at_once=float(np.mean(at_once)),
        surplus=float(np.mean([len(some) for some in seen]) - hits.float().mean()),
        in_empty_places=float(np.mean([len(analyser.find(photo)) for photo in photos(empty_places(side))])),
        key_point_error=float(errors.mean()),
        key_point_error_95=float(errors.quantile(0.95)),
        top_one=top_one(embeddings),
        top_one_of_scorer=top_one(scored),
        embedding_length=float(embeddings[hits].norm(dim=1).mean()),
        traits=traits_named(bundle / FILES["traits"], scene, numbers),
        seconds_per_photo=seconds,
    )


def top_one(embeddings: Tensor) -> float:
    """The first half (n, 512) is known, the second half shows the same n people again."""
    known, asked = F.normalize(embeddings).chunk(2)
    likeness, most_alike = (asked @ known.T).max(1)
    right = (most_alike == torch.arange(len(known))) & (likeness > 0)  # 0: no face was found
    return float(right.float().mean())


def point_errors(points: Tensor, true: Tensor) -> Tensor:
    """The mean distance of five points (n, 5, 2) from the true ones, in distances of the eyes, (n,)."""
    eyes = torch.linalg.vector_norm(true[:, 1] - true[:, 0], dim=-1)
    return torch.linalg.vector_norm(points - true, dim=-1).mean(1) / eyes


def right_one(faces: Sequence[Face], box: Tensor) -> Face | None:
    """The one of `faces` that is where `box` (4,) is."""
    fitting = [face for face in faces if overlaps(torch.tensor(face.box).float(), box)[0] > SAME_PLACE]
    return max(fitting, key=lambda face: face.score, default=None)


def traits_named(file: Path, scene: Rendering, numbers: Tensor) -> dict[str, float]:
    """How often each trait is named rightly."""
    pictures = F.interpolate(scene.picture, (SIDE, SIDE), mode="area")
    shown = scenes(numbers, seeds.FACE_PACK_CHECK)
    return {
        name: float((said.argmax(1) == getattr(shown, label)).float().mean())
        for name, label, said in zip(CLASSES, LABELS, answers(file, pictures))
    }


def answers(file: Path, pictures: Tensor) -> list[Tensor]:
    """All outputs of an ONNX file for pictures (n, 3, h, w) in 0 … 1."""
    session = onnxruntime.InferenceSession(str(file), providers=CPU)
    parts = [session.run(None, {"input": (some * 2 - 1).numpy()}) for some in pictures.split(64)]
    return [torch.from_numpy(np.concatenate(output)) for output in zip(*parts)]


def empty_places(side: int) -> Tensor:
    """Backgrounds without anyone, (PLACES, 3, side, side)."""
    across = pixel_middles(side, torch.device("cpu")) * 2 - 1
    x, y = across.expand(1, side, side), across[:, None].expand(1, side, side)
    return backgrounds(scenes(range(PLACES), seeds.FACE_PACK_CHECK), x, y).clamp(0, 1)


def bgrs(pictures: Tensor) -> list[np.ndarray]:
    """Pictures (n, 3, h, w) in 0 … 1 as OpenCV has them."""
    return [np.ascontiguousarray(np.asarray(photo)[..., ::-1]) for photo in photos(pictures)]


def photos(pictures: Tensor) -> list[Image.Image]:
    """Pictures (n, 3, h, w) in 0 … 1 as people have them."""
    pixels = (pictures.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    return [Image.fromarray(picture) for picture in pixels]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.face_pack.measure", description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True, help="folder with antelopev2/ and scoring/")
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--side", type=int, default=SIDE, help=f"of the pictures in pixels [{SIDE}]")
    parser.add_argument("--output", type=Path, help="JSON file to write the figures into")
    options = parser.parse_args(arguments)
    try:
        figures = json.dumps(asdict(measure(options.bundle, options.people, options.side)), indent=2)
    except InstantIDError as error:
        print(f"❌ {explain(error, system_language())}", file=sys.stderr)
        return 2
    print(figures)
    if options.output:
        options.output.write_text(figures + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
