"""From a checked bundle and a plan to a pipeline whose parts are where the plan wants them, as the plan wants them."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from instantid.bundle import Bundle
from instantid.fp8 import multiply_in_fp8
from instantid.hardware import free_memory, is_out_of_memory
from instantid.memory_plan import GRAPHED, MemoryPlan
from instantid.messages import user_error
from instantid.monitor import MemoryMonitor
from instantid.residency import resampler_visits, wait_in_ram
from instantid.storage import keep_in_int8
from instantid.streaming import MappedModel, map_folder, map_single_file, weight_paths
from ip_adapter.checkpoint import preferred_file
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline

logger = logging.getLogger(__name__)

# diffusers class of each model of a base, in the order of loading: the largest first, while memory is emptiest.
MODEL_CLASSES = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
LOOP = ("unet", "controlnet")  # what the denoising loop needs
# Storage of a plan -> whose weights are rounded, and by what.
ROUNDED = {
    "full": ((), keep_in_int8),
    "int8-unet": (("unet",), keep_in_int8),
    "int8": (LOOP, keep_in_int8),
    "fp8": (LOOP, multiply_in_fp8),
}


def assemble(bundle: Bundle, plan: MemoryPlan, monitor: MemoryMonitor) -> StableDiffusionXLInstantIDPipeline:
    """The pipeline, each model read straight to where the plan wants it, one after the other.

    All that is Python's work is done first, on models that hold no memory: beside threads that copy, it would take
    several times as long and stop them again and again.

    Raises: UserError for files that cannot be used, torch.OutOfMemoryError.
    """
    mapped = {name: mapped_model(name, bundle) for name in (*MODEL_CLASSES, "controlnet")}
    models = {name: waiting.model for name, waiting in mapped.items()}
    pipeline = assembled(bundle.base_config if bundle.base.is_file() else bundle.base, **models)
    for name in MODEL_CLASSES:
        _placed(name, mapped.pop(name), plan)
    monitor.stage("base")
    # Before the adapter: while its weights are rounded to 8 bits they are there in full, and nothing else may be.
    _placed("controlnet", mapped.pop("controlnet"), plan)
    monitor.stage("identitynet")
    pipeline.load_ip_adapter_instantid(bundle.adapter, heads=bundle.adapter_heads)
    _apply(plan, pipeline)
    monitor.stage("adapter")
    return pipeline


def large_files(bundle: Bundle, plan: MemoryPlan) -> list[Path]:
    """The files that `assemble` reads whole, in its order; none where weights may stay in their files."""
    if plan.device != "cuda":
        return []
    base = [bundle.base]
    if bundle.base.is_dir():
        base = [
            path
            for name, cls in MODEL_CLASSES.items()
            for path in weight_paths(cls, bundle.base / name, bundle.variant_of(name))
        ]
    return [*base, *weight_paths(ControlNetModel, bundle.identitynet), preferred_file(bundle.adapter)]


def mapped_model(name: str, bundle: Bundle) -> MappedModel:
    """One of `MODEL_CLASSES` or "controlnet" (IdentityNet), not yet placed. Raises: UserError naming the folder."""
    if name == "controlnet":
        with reading(bundle.identitynet):
            return map_folder(ControlNetModel, bundle.identitynet)
    if bundle.base.is_dir():
        with reading(bundle.base / name):
            return map_folder(MODEL_CLASSES[name], bundle.base / name, bundle.variant_of(name))
    if bundle.base_config is None:
        raise user_error("loading.no_description", file=bundle.base)
    with reading(bundle.base):
        return map_single_file(MODEL_CLASSES[name], bundle.base, bundle.base_config / name)


def _placed(name: str, mapped: MappedModel, plan: MemoryPlan) -> torch.nn.Module:
    stays = plan.offload == "none" or (plan.offload == "idle" and name in LOOP)
    model = mapped.placed(plan.device if stays else "cpu", getattr(torch, plan.precision))
    names, in_8_bits = ROUNDED[plan.storage]
    if name in names:
        in_8_bits(model)
        free_memory()
    return model


def assembled(folder: Path, **models: torch.nn.Module) -> StableDiffusionXLInstantIDPipeline:
    """The pipeline over `models`, with the tokenizers and the scheduler of a diffusers folder."""
    with warnings.catch_warnings(), reading(folder):
        warnings.simplefilter("ignore")  # about components that were given rather than read
        return StableDiffusionXLInstantIDPipeline.from_pretrained(
            folder, **models, add_watermarker=False, local_files_only=True
        )


@contextlib.contextmanager
def reading(what: Path, sentence: str = "loading.failed") -> Iterator[None]:
    """Whatever a library raises on files that it cannot use becomes one sentence that names them."""
    try:
        yield
    except Exception as error:  # every library has its own
        if is_out_of_memory(error):
            raise
        logger.debug("loading %s", what, exc_info=error)
        raise user_error(sentence, what=what, detail=" ".join(str(error).split())[:200]) from error


def _apply(plan: MemoryPlan, pipeline: StableDiffusionXLInstantIDPipeline) -> None:
    """The switches of the plan; each keeps the identity."""
    if plan.precision == "float16":
        pipeline.vae.register_to_config(force_upcast=plan.vae_precision == "float32")
    if plan.vae_slicing:
        pipeline.vae.enable_slicing()
    if plan.vae_tile:
        pipeline.vae.enable_tiling()
        pipeline.vae.tile_sample_min_size = plan.vae_tile
        pipeline.vae.tile_latent_min_size = plan.vae_tile // pipeline.vae_scale_factor
    if plan.attention_slicing:
        pipeline.enable_attention_slicing()
    if plan.offload == "idle":
        wait_in_ram(pipeline, plan.device, plan.pinned)
    elif plan.offload == "model":
        pipeline.enable_model_cpu_offload()
        resampler_visits(pipeline, plan.device)
    elif plan.offload == "sequential":
        pipeline.enable_sequential_cpu_offload()
        resampler_visits(pipeline, plan.device)
    if plan.speed in GRAPHED:
        pipeline.enable_cuda_graphs()
    if plan.speed == "compiled":
        pipeline.enable_compilation()
    pipeline.set_progress_bar_config(disable=True)
