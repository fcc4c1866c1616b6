"""Pictures during training: always the same people, poses, prompts and noise, and how alike they are.

Likeness is the cosine of two embeddings by the bundle's own recogniser, the one that the identity comes from: good for
watching a run, too kind for comparing models with others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image

from instantid.faces import FaceAnalyser
from ip_adapter.errors import UserError
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline, draw_kps
from training.data import Size, view_of
from training.face_index import FaceRecord
from training.journal import append_row


@dataclass(frozen=True, eq=False)
class Case:
    """One picture that is made again and again."""

    name: str  # of its file
    embedding: np.ndarray  # (512,) raw
    key_points: np.ndarray  # (5, 2) on the canvas
    prompt: str


@dataclass(frozen=True)
class Validation:
    """Makes the picture of every case, measures it and writes both down.

    output/validation/step-00001000/*.png, output/validation.jsonl (step, name, prompt, likeness)
    """

    accelerator: Accelerator
    pipeline: StableDiffusionXLInstantIDPipeline
    analyser: FaceAnalyser
    cases: Sequence[Case]
    canvas: Size
    output: Path
    steps: int = 30
    guidance_scale: float = 5.0
    seed: int = 0

    def __call__(self, step: int) -> None:
        """Validate with the weights as they are. Every process makes its share of the pictures."""
        folder = self.output / "validation" / f"step-{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for case in self.cases[self.accelerator.process_index :: self.accelerator.num_processes]:
            picture = self.picture(case)
            picture.save(folder / f"{case.name}.png")
            likeness = self.likeness(picture, case)
            rows.append({"step": step, "name": case.name, "prompt": case.prompt, "likeness": likeness})
        rows = gather_object(rows)
        if self.accelerator.is_main_process:
            for row in sorted(rows, key=lambda row: row["name"]):
                append_row(self.output / "validation.jsonl", row)

    @torch.no_grad()
    def picture(self, case: Case) -> Image.Image:
        """The picture of a case; the same noise each time."""
        pipeline, (width, height) = self.pipeline, self.canvas
        with self.accelerator.autocast():
            latents = pipeline(
                prompt=case.prompt,
                image=draw_kps(Image.new("RGB", self.canvas), case.key_points),
                image_embeds=case.embedding,
                width=width,
                height=height,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance_scale,
                generator=torch.Generator().manual_seed(self.seed),
                output_type="latent",
            ).images
        # Outside: the VAE is in float32 because it overflows in half precision.
        decoded = pipeline.vae.decode(latents.float() / pipeline.vae.config.scaling_factor).sample
        return pipeline.image_processor.postprocess(decoded, output_type="pil")[0]

    def likeness(self, picture: Image.Image, case: Case) -> float | None:
        """Cosine, -1 … 1, of the face in the picture and the person; None if there is no face in it."""
        try:
            found = self.analyser.analyse(picture).embedding
        except UserError:
            return None
        cosine = found @ case.embedding / (np.linalg.norm(found) * np.linalg.norm(case.embedding))
        return round(float(cosine), 4)


def cases_of(records: Sequence[FaceRecord], canvas: Size, prompts: Sequence[str] = ()) -> Iterator[Case]:
    """Cases of people kept out of training: identity of each one's first picture, pose of the last.

    Args:
        prompts: for every person; none = the caption of the picture that the pose is of.
    """
    people: dict[str, list[FaceRecord]] = {}
    for record in records:
        people.setdefault(record.person, []).append(record)
    for person, (first, *_, last) in enumerate([pictures[0], *pictures] for pictures in people.values()):
        points = view_of(last, canvas).placement.points(last.key_points)
        for number, prompt in enumerate(prompts or [last.caption]):
            yield Case(f"person-{person}-{number}", first.embedding, points, prompt)
