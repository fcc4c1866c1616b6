"""The base model: text encoders and a UNet that draw the pictures that captions speak of. Written as an SDXL folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from torch import Tensor, nn
from transformers import CLIPTokenizer

from instantid.messages import user_error
from instantid.small_base import (
    END,
    PROMPT_TOKENS,
    model_index,
    published_name,
    sdxl_scheduler,
    vocabulary_of,
    write_json,
    write_text_encoder,
    write_tokenizer,
)
from training.draws import DropRates, draw
from training.face_world import seeds
from training.face_world.chance import uniform
from training.face_world.constants import constant
from training.graphed import graphed, precision_on
from training.identity_model import stored, write_model
from training.latents import latents_of, moments_of
from training.losses import face_places, min_snr_weights, noise_schedule, prediction_loss
from training.small_bundle.models import FACTOR, Sizes, encoded, new_text_encoders, new_unet, words
from training.small_bundle.pool import Examples, Pool
from training.small_bundle.sheet import save_sheet
from training.small_bundle.stage import Budget, Stage, half_precision
from training.small_bundle.world import drawn, nothing_said, prompts

WITHOUT_TEXT = 0.1  # share of examples whose text asks for nothing
GAMMA = 5.0  # bound of the signal-to-noise weights
FACE_WEIGHT = 4.0  # of a place inside a face's box; 1 outside
OTHER_SIZES = 0.3  # share of examples that say any sizes: they mean nothing here, and are not to disturb
LEAST_SIZE, MOST_SIZE = 64, 256
SHEET_ROWS = 2
SHEET_PROMPTS = (
    "a photo of a person on a beach, smiling",
    "a watercolour of a person in a forest",
    "an ink drawing of someone in the snow, looking sad",
    "a comic of a person in a city at night, wearing a red hoodie",
    "a neon portrait of a person in space",
    "a film noir still of a person in a library, angry",
    "pixel art of a person in a desert with green hair",
    "an oil painting of a person in the mountains, wearing a straw hat with a blue ribbon",
)


class BaseModel(nn.Module):
    """What is trained together."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.unet = new_unet(sizes)
        self.text_encoder, self.text_encoder_2 = new_text_encoders(sizes)

    def forward(self, noisy: Tensor, timesteps: Tensor, ids: Tensor, size_ids: Tensor) -> Tensor:
        """The noise in `noisy` (b, c, h, w), by token ids (b, 77) and SDXL's sizes (b, 6)."""
        text, pooled = encoded(self.text_encoder, self.text_encoder_2, ids)
        added = {"text_embeds": pooled, "time_ids": size_ids}
        return self.unet(noisy, timesteps, text, added_cond_kwargs=added, return_dict=False)[0]


def train_base(
    output: Path,
    vae: Path,
    bundle: Path,
    sizes: Sizes,
    budget: Budget,
    device: torch.device,
    write: Callable[[str], None] = print,
) -> None:
    """Train, or go on, over the autoencoder in `vae`; writes `bundle/base` once the budget is used.

    Raises: UserError if there is no autoencoder yet.
    """
    if not (vae / "config.json").is_file():
        raise user_error("training.stage_missing", folder=vae, stage="vae")
    vae = AutoencoderKL.from_pretrained(vae).to(device).eval().requires_grad_(False)
    write_tokenizers(bundle / "base")
    tokenizer = read_tokenizer(bundle / "base")

    @torch.no_grad()
    def make(numbers: Tensor) -> Examples:
        pictures = drawn(numbers, sizes.side, seeds.BASE_SCENES, device)
        rendering = pictures.rendering
        ids = token_ids(tokenizer, prompts(pictures.scenes, seeds.BASE_SCENES))
        return {
            "moments": moments_of(vae, rendering.picture * 2 - 1).half(),
            "boxes": rendering.box,
            "ids": ids.to(device),
        }

    torch.manual_seed(seeds.BASE_SCENES)
    model = BaseModel(sizes).to(device).train()
    pool = Pool(make, budget.supply, seeds.BASE_SCENES, ahead=device.type == "cuda")
    schedule = noise_schedule(sdxl_scheduler().config)
    nothing = token_ids(tokenizer, nothing_said()).to(device)
    count, latent_shape = budget.batch_size, (sizes.latent_channels, sizes.latent_side, sizes.latent_side)
    predicted, precision = graphed(model, device, write=write), precision_on(device)
    rates = DropRates(identity=0, text=WITHOUT_TEXT, both=0, control=0)

    def loss(step: int) -> dict[str, Tensor]:
        examples, _ = pool.pick(step, count)
        numbers = torch.arange(step * count, (step + 1) * count, device=device)
        draws = draw(numbers, latent_shape, schedule.config.num_train_timesteps, rates, seeds.BASE_SCENES, device)
        latents = latents_of(vae, examples["moments"], draws)
        noisy = schedule.add_noise(latents, draws.noise, draws.timesteps)
        chance = uniform(numbers, seeds.BASE_SCENES, "texts and sizes", 8)
        ids = torch.where(draws.without_text[:, None], some_of(nothing, chance[:, 0]), examples["ids"])
        noise = predicted(noisy.to(precision), draws.timesteps, ids, size_ids(sizes.side, chance[:, 1:]))
        weights = min_snr_weights(schedule, draws.timesteps, GAMMA)
        places = face_places(examples["boxes"], latent_shape[1:], FACTOR, FACE_WEIGHT)
        return {"loss": prediction_loss(noise, draws.noise, weights, places)}

    def look(name: str) -> None:
        pipeline = pipeline_of(model, vae, tokenizer)
        pictures = sample(pipeline, SHEET_PROMPTS * SHEET_ROWS, device)
        save_sheet(pictures, len(SHEET_PROMPTS), output / "sheets" / f"{name}.png")

    if Stage(model, loss, budget, output).train(look, write) or not (bundle / "base" / "model_index.json").is_file():
        write_base(bundle / "base", model, vae)


def some_of(rows: Tensor, chance: Tensor) -> Tensor:
    """For each of b numbers in 0 … 1 one of the rows; half of the time the first."""
    which = ((2 * chance - 1).clamp(min=0) * len(rows)).long()
    return rows[which]


def size_ids(side: int, chance: Tensor) -> Tensor:
    """SDXL's sizes (b, 6) by chance (b, 7): those of a whole picture, or any."""
    whole = constant((side, side, 0, 0, side, side), chance.device)
    drawn_sizes = ((LEAST_SIZE + chance[:, 1:] * (MOST_SIZE - LEAST_SIZE)) / FACTOR).round() * FACTOR
    drawn_sizes[:, 2:4] -= LEAST_SIZE  # where the picture was cut: from 0 on
    return torch.where(chance[:, :1] < OTHER_SIZES, drawn_sizes, whole)


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """(b, 77) on the processor."""
    options = {"padding": "max_length", "max_length": PROMPT_TOKENS, "truncation": True, "return_tensors": "pt"}
    return tokenizer(texts, **options).input_ids


def write_tokenizers(folder: Path) -> None:
    """Both tokenizers of an SDXL folder; here they are the same."""
    for name in ("tokenizer", "tokenizer_2"):
        write_tokenizer(folder / name, *vocabulary_of(words()), padding=END)


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=PROMPT_TOKENS)


def pipeline_of(model: BaseModel, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusionXLPipeline:
    """diffusers' own pipeline over the models as they are."""
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        text_encoder_2=model.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=model.unet,
        scheduler=sdxl_scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def sample(pipeline: StableDiffusionXLPipeline, texts: tuple[str, ...], device: torch.device) -> Tensor:
    """A picture of each text, (b, 3, h, w) in 0 … 1; always from the same noise."""
    generators = [torch.Generator().manual_seed(number) for number in range(len(texts))]
    with half_precision(device):
        latents = pipeline(list(texts), num_inference_steps=20, generator=generators, output_type="latent").images
    return pipeline.vae.decode(latents.float()).sample / 2 + 0.5


def write_base(folder: Path, model: BaseModel, vae: AutoencoderKL) -> None:
    """A diffusers SDXL folder in half precision. The models stay as they are."""
    for part, name in ((model.unet, "unet"), (vae, "vae")):
        write_model(part, folder / name)
    for name in ("text_encoder", "text_encoder_2"):
        encoder = getattr(model, name)
        weights = stored({published_name(key): weight for key, weight in encoder.named_parameters()})
        write_text_encoder(folder / name, encoder.config, weights)
    sdxl_scheduler().save_pretrained(folder / "scheduler")
    write_json(folder / "model_index.json", model_index(force_zeros_for_empty_prompt=False))
