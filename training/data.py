"""Batches of examples: a picture of a person, where the face is in it, what it shows, and the identity from another
picture of the same person.

An example has a number, counted from 0 through the whole run, that says which picture it is. A source is told the
numbers that its process is to serve, batch by batch, and gives the batches: `lambda numbers: map(render, numbers)` is
one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from instantid.images import Placement, open_photo
from pipeline_stable_diffusion_xl_instantid import draw_kps
from training.draws import PICTURE, stream
from training.face_index import FaceRecord

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class Batch:
    """`b` examples of one size `H`×`W`, in pixels; `h`×`w` in latents. On any device."""

    key_points: torch.Tensor  # (b, 3, H, W) what `draw_kps` draws, 0 … 1
    embeddings: torch.Tensor  # (b, 512) raw
    captions: Sequence[str] = ()  # b; not needed where there is text
    pixels: torch.Tensor | None = None  # (b, 3, H, W) -1 … 1; not needed where there are moments
    moments: torch.Tensor | None = None  # (b, 2c, h, w) mean and log variance that the VAE gives
    size_ids: torch.Tensor | None = None  # (b, 6) SDXL's sizes; None = the pictures are whole and of this size
    text: tuple[torch.Tensor, torch.Tensor] | None = None  # captions encoded: (b, 77, d) and pooled (b, p)
    boxes: torch.Tensor | None = None  # (b, 4) x0 y0 x1 y1 of the faces in pixels; needed where they count more
    face_points: torch.Tensor | None = None  # (b, 5, 2) key points in pixels; needed where faces are looked at


Source = Callable[[Iterable[list[int]]], Iterable[Batch]]


def example_numbers(
    start: int, batches: int, batch_size: int, processes: int = 1, rank: int = 0
) -> Iterator[list[int]]:
    """The numbers of process `rank`, batch by batch: all processes together go through them in order."""
    for batch in range(batches):
        first = start + (batch * processes + rank) * batch_size
        yield list(range(first, first + batch_size))


@dataclass(frozen=True)
class View:
    """The part of a picture that is trained on."""

    placement: Placement  # picture -> canvas
    size_ids: tuple[int, ...]  # original height, width; crop top, left; target height, width (SDXL, section 2.2)


def view_of(record: FaceRecord, canvas: Size) -> View:
    """The picture shrunk or enlarged until it just covers the canvas, the face as near the middle as that allows."""
    size, canvas = np.array(record.size), np.array(canvas)
    scale = float((canvas / size).max())
    centre = (record.box[:2] + record.box[2:]) / 2 * scale
    left, top = np.round((canvas / 2 - centre).clip(canvas - np.ceil(size * scale), 0)).astype(int).tolist()
    original, target = record.size[::-1], tuple(canvas[::-1].tolist())
    return View(Placement(scale, left, top), (*original, -top, -left, *target))


def cropped(picture: Image.Image, view: View) -> torch.Tensor:
    """The view of a picture, (3, H, W) in -1 … 1."""
    height, width = view.size_ids[-2:]
    place = view.placement
    box = np.array([-place.left, -place.top, width - place.left, height - place.top]) / place.scale
    box = np.clip(box, 0, [*picture.size] * 2)  # what rounding put outside
    part = picture.resize((width, height), Image.Resampling.LANCZOS, box=tuple(box))
    return torch.from_numpy(np.array(part)).permute(2, 0, 1) / 127.5 - 1


class FaceDataset(Dataset):
    """Example number -> a batch of one, from a prepared folder.

    Every picture is seen once in each round, in an order of its own. The embedding is that of another picture of the
    same person, where there is one: of its own picture a model would learn the light and the pose too.

    Args:
        folder: of the index.
        records: the pictures to train on.
        canvas: size to train at, multiples of 8.
        seed: of the orders and the choices of embeddings.
        latents: gives the moments of a record, if they are kept; see `latents.LatentCache`.
    """

    def __init__(
        self,
        folder: Path,
        records: Sequence[FaceRecord],
        canvas: Size,
        seed: int = 0,
        latents: Callable[[FaceRecord], torch.Tensor] | None = None,
    ) -> None:
        self.folder, self.records, self.canvas, self.seed, self.latents = folder, records, canvas, seed, latents
        self._of_person: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            self._of_person.setdefault(record.person, []).append(index)

    def __getitem__(self, number: int) -> Batch:
        target, source = self.pair(number)
        view = view_of(target, self.canvas)
        points = draw_kps(Image.new("RGB", self.canvas), view.placement.points(target.key_points))
        pixels = moments = None
        if self.latents:
            moments = self.latents(target)[None]
        else:
            pixels = cropped(open_photo(self.folder / target.file), view)[None]
        return Batch(
            key_points=torch.from_numpy(np.array(points)).permute(2, 0, 1)[None] / 255,
            embeddings=torch.from_numpy(source.embedding)[None],
            captions=[target.caption],
            pixels=pixels,
            moments=moments,
            size_ids=torch.tensor([view.size_ids]),
            boxes=torch.from_numpy(view.placement.box(target.box))[None].float(),
        )

    def pair(self, number: int) -> tuple[FaceRecord, FaceRecord]:
        """The picture of example `number`, and the picture that its embedding is of."""
        turn, place = divmod(number, len(self.records))
        index = int(_order_of_round(len(self.records), self.seed, turn)[place])
        others = [other for other in self._of_person[self.records[index].person] if other != index] or [index]
        chosen = np.random.default_rng(stream(self.seed, number, PICTURE)).integers(len(others))
        return self.records[index], self.records[others[chosen]]


@functools.lru_cache(maxsize=2)  # batches may lie across the border of two rounds
def _order_of_round(count: int, seed: int, turn: int) -> np.ndarray:
    return np.random.default_rng([seed, turn]).permutation(count)


def joined(batches: Sequence[Batch]) -> Batch:
    """Several batches of one size as one."""

    def join(values: list) -> torch.Tensor | list[str] | None:
        if isinstance(values[0], torch.Tensor):
            return torch.cat(values)
        return None if values[0] is None else list(itertools.chain(*values))

    return Batch(**{field.name: join([getattr(batch, field.name) for batch in batches]) for field in fields(Batch)})


def file_source(dataset: FaceDataset, workers: int = 0) -> Source:
    """A source that reads a prepared folder, with so many processes beside this one."""

    def source(numbers: Iterable[list[int]]) -> Iterable[Batch]:
        return DataLoader(dataset, batch_sampler=numbers, num_workers=workers, collate_fn=joined)

    return source


def held_out(records: Sequence[FaceRecord], people: int, seed: int = 0) -> tuple[list[FaceRecord], list[FaceRecord]]:
    """Split into those to train on and those of so many people, chosen by the seed, whom training never sees."""
    persons = sorted({record.person for record in records})
    chosen = set(np.random.default_rng(seed).permutation(persons)[:people].tolist())
    return (
        [record for record in records if record.person not in chosen],
        [record for record in records if record.person in chosen],
    )
