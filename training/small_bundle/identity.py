"""The identity: IdentityNet and the adapter over the trained base, by the general trainer, on drawn people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from instantid.bundle import Bundle, check_base
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline, draw_kps
from training.data import Batch, Source
from training.face_world import seeds
from training.face_world.chance import uniform
from training.identity_model import training_pipeline, write_identity
from training.journal import append_row, keep_rows
from training.latents import moments_of
from training.options import TrainingOptions
from training.small_bundle.base import FACE_WEIGHT, GAMMA, read_tokenizer, token_ids
from training.small_bundle.likeness import FaceLikeness
from training.small_bundle.models import encoded, identity_sizes
from training.small_bundle.pool import Examples, Pool
from training.small_bundle.recipe import Recipe
from training.small_bundle.sheet import save_sheet
from training.small_bundle.world import PICTURES_EACH, drawn, prompts
from training.trainer import PRECISIONS, Progress, accelerator_for, train

LIKENESS_WEIGHT = 0.06  # its gradient is then some twice as long as the noise prediction's, late in training
FROM_PORTRAIT = 0.6  # share of examples whose embedding is of the person's portrait; the others': of any other picture
SHAKEN = 0.02  # deviation of the key points that an embedding is made with, of the eyes' distance: detectors err too
WATCHED_PROMPTS = (
    "a photo of a person in a studio",
    "a watercolour of a person in a garden, smiling",
    "an ink drawing of a person in the snow",
    "an oil painting of a person on a beach, looking surprised",
)


class Embeds(Protocol):
    """What makes embeddings: `training.face_pack.embedder.Embedder`."""

    network: nn.Module  # aligned crops (b, 3, 112, 112) in -1 … 1 -> embeddings (b, 512); frozen

    def embed(self, pictures: Tensor, key_points: Tensor) -> Tensor:
        """(b, 3, h, w) in 0 … 1 and (b, 5, 2) in pixels -> raw embeddings (b, 512)."""


def train_identity(
    output: Path,
    bundle: Path,
    recipe: Recipe,
    load_embedder: Callable[[torch.device], Embeds],
    write: Callable[[str], None] = print,
) -> Progress:
    """Train, or go on, over `bundle/base`; writes IdentityNet and adapter into `bundle` in the end."""
    options = options_of(recipe)
    accelerator = accelerator_for(options)
    device = accelerator.device
    base = Bundle(
        base=check_base(bundle / "base"),
        identitynet=bundle / "ControlNetModel",
        adapter=bundle / "ip-adapter.safetensors",
        face_pack=bundle / "antelopev2",
        base_config=None,
        variant=None,
        description="",
    )
    dtype = PRECISIONS[options.mixed_precision]
    pipeline = training_pipeline(base, device, dtype, **identity_sizes(recipe.sizes), seed=seeds.IDENTITY_SCENES)
    pipeline.vae.eval()
    embedder = load_embedder(device)
    watch = Watch(accelerator, pipeline, embedder, recipe, output)
    source = source_of(pipeline, embedder, bundle, recipe, device)
    likeness = FaceLikeness(pipeline.vae, embedder.network, LIKENESS_WEIGHT, recipe.faces_seen)
    progress = train(
        accelerator,
        pipeline,
        source,
        options,
        output,
        further_loss=likeness,
        validate=watch,
        resume=True,
        write=write,
    )
    watch(progress.step)
    write_identity(pipeline, bundle)
    return progress


def options_of(recipe: Recipe) -> TrainingOptions:
    """The options of the general trainer."""
    budget = recipe.identity
    return TrainingOptions(
        steps=budget.steps or 10**7,
        minutes=budget.minutes,
        schedule="clock" if budget.minutes else "cosine",
        batch_size=budget.batch_size,
        learning_rate=budget.learning_rate,
        identity_net_learning_rate=recipe.identity_net_learning_rate,
        warmup=budget.warmup,
        weight_decay=budget.weight_decay,
        ema_decay=budget.ema_decay,
        min_snr_gamma=GAMMA,
        face_weight=FACE_WEIGHT,
        cuda_graphs=torch.cuda.is_available(),
        mixed_precision="bf16" if torch.cuda.is_available() else "no",
        checkpoint_every=500,
        keep_checkpoints=1,
        log_every=budget.log_every,
        validate_every=2000,
        seed=seeds.IDENTITY_SCENES,
    )


def source_of(
    pipeline: StableDiffusionXLInstantIDPipeline, embedder: Embeds, bundle: Path, recipe: Recipe, device: torch.device
) -> Source:
    """Batches from a pool: the target is one picture of a person, the embedding is of another one."""
    tokenizer, side = read_tokenizer(bundle / "base"), recipe.sizes.side
    threads = ThreadPoolExecutor()

    @torch.no_grad()
    def make(numbers: Tensor) -> Examples:
        pictures = drawn(numbers, side, seeds.IDENTITY_SCENES, device)
        rendering = pictures.rendering
        ids = token_ids(tokenizer, prompts(pictures.scenes, seeds.IDENTITY_SCENES)).to(device)
        text, pooled_text = encoded(pipeline.text_encoder, pipeline.text_encoder_2, ids)
        return {
            "moments": moments_of(pipeline.vae, rendering.picture * 2 - 1).half(),
            "key_points": key_point_pictures(rendering.key_points, side, threads).to(device),
            "embeddings": embedder.embed(rendering.picture, shaken(rendering.key_points, numbers.to(device))),
            "boxes": rendering.box,
            "face_points": rendering.key_points,
            "text": text,
            "pooled_text": pooled_text,
        }

    pool = Pool(make, recipe.identity.supply, seeds.IDENTITY_SCENES, ahead=device.type == "cuda")

    @torch.no_grad()
    def batch_of(numbers: list[int]) -> Batch:
        examples, picked = pool.pick(numbers[0] // len(numbers), len(numbers))
        others = other_pictures(picked, torch.tensor(numbers).to(device, non_blocking=True))
        return Batch(
            key_points=examples["key_points"].float() / 255,
            embeddings=pool.column("embeddings", others),
            moments=examples["moments"],
            text=(examples["text"], examples["pooled_text"]),
            boxes=examples["boxes"],
            face_points=examples["face_points"],
        )

    def source(batches: Iterable[list[int]]) -> Iterator[Batch]:
        return map(batch_of, batches)

    return source


def other_pictures(numbers: Tensor, examples: Tensor) -> Tensor:
    """For each picture another one of its person, (b,), by the example's number: often the portrait."""
    chance, step = uniform(examples, seeds.IDENTITY_SCENES, "sources", 2).unbind(1)
    place = numbers % PICTURES_EACH
    others = (place + 1 + (step * (PICTURES_EACH - 1)).long()) % PICTURES_EACH
    portrait = (place > 0) & (chance < FROM_PORTRAIT)
    return numbers - place + torch.where(portrait, torch.zeros_like(others), others)


def shaken(key_points: Tensor, numbers: Tensor) -> Tensor:
    """Key points (b, 5, 2) as a detector might find them."""
    eyes = (key_points[:, 0] - key_points[:, 1]).norm(dim=-1)[:, None, None]
    chance = uniform(numbers, seeds.IDENTITY_SCENES, "shaken", 2 * 5 * 2).view(2, -1, 5, 2)
    return key_points + SHAKEN * eyes * (chance[0] - chance[1]) * 6**0.5  # a triangle of deviation 1


def key_point_pictures(key_points: Tensor, side: int, threads: ThreadPoolExecutor) -> Tensor:
    """What IdentityNet reads of key points (b, 5, 2): whole numbers 0 … 255, (b, 3, side, side), on the processor."""
    canvas = Image.new("RGB", (side, side))
    pictures = threads.map(lambda points: np.asarray(draw_kps(canvas, points)), key_points.cpu().numpy())
    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2)


class Watch:
    """Draws the same held-out people now and then, and measures how alike they are, at the place that was asked for.

    output/sheets/*.png, output/likeness.jsonl (step, likeness -1 … 1, told: share whose nearest in the gallery it is)
    """

    def __init__(
        self,
        accelerator: Accelerator,
        pipeline: StableDiffusionXLInstantIDPipeline,
        embedder: Embeds,
        recipe: Recipe,
        output: Path,
    ) -> None:
        self.accelerator, self.pipeline, self.embedder, self.output = accelerator, pipeline, embedder, output
        device, side, count = accelerator.device, recipe.sizes.side, recipe.watched
        numbers = torch.arange(recipe.gallery) * PICTURES_EACH
        portraits = drawn(numbers, side, seeds.WATCHED, device, seeds.WATCHED).rendering
        self.gallery = embedder.embed(portraits.picture, portraits.key_points)
        self.portraits = portraits.picture[:count]
        self.key_points = drawn(numbers[:count] + 1, side, seeds.WATCHED, device, seeds.WATCHED).rendering.key_points
        self.side = side

    @torch.no_grad()
    def __call__(self, step: int) -> None:
        """Draw with the weights as they are."""
        rows, columns = len(self.portraits), len(WATCHED_PROMPTS)
        points = self.key_points.repeat_interleave(columns, 0)
        who = torch.arange(rows, device=points.device).repeat_interleave(columns)
        pictures = self.pictures(self.gallery[who], points, list(WATCHED_PROMPTS) * rows)
        shown = torch.cat([self.portraits[:, None], pictures.unflatten(0, (rows, columns))], 1).flatten(0, 1)
        save_sheet(shown, columns + 1, self.output / "sheets" / f"{step:06d}.png")
        alike = F.normalize(self.embedder.embed(pictures, points)) @ F.normalize(self.gallery).T
        likeness, told = alike.gather(1, who[:, None]).mean(), (alike.argmax(1) == who).float().mean()
        journal = self.output / "likeness.jsonl"
        keep_rows(journal, lambda row: row["step"] < step)
        append_row(journal, {"step": step, "likeness": round(likeness.item(), 4), "told": round(told.item(), 4)})

    def pictures(self, embeddings: Tensor, key_points: Tensor, texts: list[str]) -> Tensor:
        """(b, 3, side, side) in 0 … 1, each from the same noise every time."""
        canvas = Image.new("RGB", (self.side, self.side))
        with self.accelerator.autocast():
            latents = self.pipeline(
                prompt=texts,
                image=[draw_kps(canvas, points) for points in key_points.cpu().numpy()],
                image_embeds=embeddings,
                ip_adapter_scale=0.8,
                controlnet_conditioning_scale=0.8,
                width=self.side,
                height=self.side,
                num_inference_steps=20,
                generator=[torch.Generator().manual_seed(number) for number in range(len(texts))],
                output_type="latent",
            ).images
        return (self.pipeline.vae.decode(latents.float()).sample / 2 + 0.5).clamp(0, 1)
