"""From a bundle on disk to models ready to generate. The same way for every bundle: published, shipped or random."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from instantid.bundle import Bundle
from instantid.faces import FaceAnalyser
from instantid.hardware import Hardware, detect_hardware, free_memory, limit_vram, prepare_allocator
from instantid.memory_plan import MemoryPlan, PlanOptions, choose_plan
from instantid.messages import DEFAULT_LANGUAGE, LANGUAGES, machine_error, say, user_error
from instantid.monitor import MemoryMonitor
from instantid.random_bundle import write_random_bundle
from instantid.streaming import model_from_folder, models_from_single_file
from instantid.weights import default_folder, obtain_bundle
from ip_adapter.errors import InstantIDError
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline

logger = logging.getLogger(__name__)

# diffusers class of each model of a base folder, in the order of loading: the largest first, while memory is emptiest.
MODEL_CLASSES = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}

# CUDA has a class of error for too little memory; Apple's GPU, the processor and cuBLAS only say so.
OUT_OF_MEMORY_WORDS = ("out of memory", "DefaultCPUAllocator", "ALLOC_FAILED")
TILE_PIXELS = 384  # side of a VAE tile: decoding then needs no more than denoising; its own default saves nothing


@dataclass(eq=False)
class Models:
    """Everything that `generate_image` needs."""

    pipeline: StableDiffusionXLInstantIDPipeline | None  # None once released
    faces: FaceAnalyser | None
    bundle: Bundle
    plan: MemoryPlan
    hardware: Hardware  # before loading
    scheduler_config: dict  # the base model's own; each request lays its scheduler over it
    lock: threading.Lock = field(default_factory=threading.Lock)  # one generation at a time

    @property
    def native_size(self) -> int:
        """Pixels: the square side that the base model was made for; 1024 for SDXL."""
        return self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor

    def release(self) -> None:
        """Give the memory back, once a running generation has ended; pages that still hold these models then say so."""
        with self.lock:
            self.pipeline = self.faces = None
        free_memory()

    def about(self) -> dict[str, str]:
        """One line for the head of the page, in each language."""
        device = self.hardware.name if self.plan.device == self.hardware.device else self.plan.device
        facts = {"device": device, "precision": self.plan.precision}
        return {
            language: say("loading.about", language, description=self.bundle.described(language), **facts)
            for language in LANGUAGES
        }


def load_models(
    source: str | Path | None = None,
    base: str | Path | None = None,
    *,
    folder: str | Path | None = None,
    options: PlanOptions | None = None,
    faces_on: str = "cpu",
    language: str = DEFAULT_LANGUAGE,
    write: Callable[[str], None] = print,
) -> Models:
    """Obtain a bundle (download it if need be), plan the memory, and load, with a memory line at each stage.

    Args:
        source: a bundle folder; None = the published weights, downloaded to `folder`, or without a GPU and without
            `base` a small bundle of random weights.
        base: base model: a name of `weights.BASE_MODELS`, a hub id, a diffusers folder or a .safetensors file.
        options: what the person decides about memory themselves.
        faces_on: "cpu" or "cuda".
        language: of the lines.
        write: takes each line.

    Raises: InstantIDError in one sentence; nothing is left on the GPU then.
    """
    prepare_allocator()
    if not source and not base and detect_hardware().device == "cpu":
        source = _random_bundle()
    bundle = obtain_bundle(source, base, folder, language=language, write=write)
    return load_bundle(bundle, options=options, faces_on=faces_on, language=language, write=write)


def load_bundle(
    bundle: Bundle,
    *,
    options: PlanOptions | None = None,
    faces_on: str = "cpu",
    language: str = DEFAULT_LANGUAGE,
    write: Callable[[str], None] = print,
) -> Models:
    """As `load_models`, from a bundle that is on disk already."""
    start = time.perf_counter()
    _quiet_libraries()
    prepare_allocator()
    hardware = detect_hardware(bundle.identitynet)
    plan = choose_plan(hardware, options)
    monitor = MemoryMonitor(write, language)
    write(say("loading.description", language, description=bundle.described(language)))
    write(plan.text(language))
    monitor.stage("start")
    if plan.device == "cuda" and plan.memory_fraction:
        limit_vram(plan.memory_fraction)
    try:
        faces, pipeline = _load_parts(bundle, plan, faces_on, monitor)
    except Exception as error:
        failure = _without_frames(error, plan)
        if failure is None:
            raise
    else:
        monitor.stage("ready")
        write(say("loading.ready", language, seconds=round(time.perf_counter() - start, 1)))
        return Models(pipeline, faces, bundle, plan, hardware, dict(pipeline.scheduler.config))
    free_memory()  # outside the handler: the traceback held what had been loaded
    raise failure


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it tells of too little memory, on whatever device."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)


def _without_frames(error: Exception, plan: MemoryPlan) -> InstantIDError | None:
    """What a person is told of `error`, holding none of what had been loaded; None if it is a bug."""
    if is_out_of_memory(error):
        detail = str(error).split(". ")[0] or type(error).__name__
        return machine_error("loading.out_of_memory", device=plan.device, detail=detail)
    if isinstance(error, InstantIDError):
        error.__cause__ = error.__context__ = error.__traceback__ = None
        return error
    return None


def _load_parts(
    bundle: Bundle, plan: MemoryPlan, faces_on: str, monitor: MemoryMonitor
) -> tuple[FaceAnalyser, StableDiffusionXLInstantIDPipeline]:
    faces = FaceAnalyser(bundle.face_pack, faces_on)
    monitor.write(say("loading.faces_on", monitor.language, provider=faces.provider))
    monitor.stage("faces")
    return faces, _load_pipeline(bundle, plan, monitor)


def _load_pipeline(bundle: Bundle, plan: MemoryPlan, monitor: MemoryMonitor) -> StableDiffusionXLInstantIDPipeline:
    dtype = getattr(torch, plan.precision)
    home = plan.device if plan.offload == "none" else "cpu"  # where each model goes as soon as it is read
    identitynet = _load(ControlNetModel, bundle.identitynet, dtype, home)
    monitor.stage("identitynet")
    if bundle.base.is_file():
        pipeline = _from_single_file(bundle, identitynet, dtype, home)
    else:
        pipeline = _from_folder(bundle, identitynet, dtype, home)
    monitor.stage("base")
    pipeline.load_ip_adapter_instantid(bundle.adapter)
    monitor.stage("adapter")
    _apply(plan, pipeline)
    gc.collect()
    return pipeline


def _from_folder(
    bundle: Bundle, identitynet: ControlNetModel, dtype: torch.dtype, home: str
) -> StableDiffusionXLInstantIDPipeline:
    models = {
        name: _load(cls, bundle.base / name, dtype, home, bundle.variant_of(name))
        for name, cls in MODEL_CLASSES.items()
    }
    return _assembled(bundle.base, controlnet=identitynet, **models)


def _from_single_file(
    bundle: Bundle, identitynet: ControlNetModel, dtype: torch.dtype, home: str
) -> StableDiffusionXLInstantIDPipeline:
    if bundle.base_config is None:
        raise user_error("loading.no_description", file=bundle.base)
    with _reading(bundle.base):
        models = dict(models_from_single_file(MODEL_CLASSES, bundle.base, bundle.base_config, device=home, dtype=dtype))
    return _assembled(bundle.base_config, controlnet=identitynet, **models)


def _load(cls: type, folder: Path, dtype: torch.dtype, home: str, variant: str | None = None) -> torch.nn.Module:
    with _reading(folder):
        return model_from_folder(cls, folder, device=home, dtype=dtype, variant=variant)


def _assembled(folder: Path, **models: torch.nn.Module) -> StableDiffusionXLInstantIDPipeline:
    """The pipeline over `models`, with the tokenizers and the scheduler of a diffusers folder."""
    with warnings.catch_warnings(), _reading(folder):
        warnings.simplefilter("ignore")  # about components that were given rather than read
        return StableDiffusionXLInstantIDPipeline.from_pretrained(
            folder, **models, add_watermarker=False, local_files_only=True
        )


@contextlib.contextmanager
def _reading(what: Path) -> Iterator[None]:
    """Whatever a library raises on files that it cannot use becomes one sentence that names them."""
    try:
        yield
    except Exception as error:  # every library has its own
        if is_out_of_memory(error):
            raise
        logger.debug("loading %s", what, exc_info=error)
        raise user_error("loading.failed", what=what, detail=" ".join(str(error).split())[:200]) from error


def _random_bundle() -> Path:
    """The published weights take minutes a picture on a processor; a small bundle shows the whole way in seconds."""
    return write_random_bundle(default_folder() / "random-bundle")


def _quiet_libraries() -> None:
    """Our memory lines tell how far loading is, our errors what is wrong; bars and remarks between them disturb."""
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def _apply(plan: MemoryPlan, pipeline: StableDiffusionXLInstantIDPipeline) -> None:
    """The switches of the plan; each keeps the identity."""
    if plan.vae_slicing:
        pipeline.vae.enable_slicing()
    if plan.vae_tiling:
        pipeline.vae.enable_tiling()
        pipeline.vae.tile_sample_min_size = TILE_PIXELS
        pipeline.vae.tile_latent_min_size = TILE_PIXELS // pipeline.vae_scale_factor
    if plan.attention_slicing:
        pipeline.enable_attention_slicing()
    if plan.offload == "model":
        pipeline.enable_model_cpu_offload()
    elif plan.offload == "sequential":
        pipeline.enable_sequential_cpu_offload()
    pipeline.set_progress_bar_config(disable=True)
