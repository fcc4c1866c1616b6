"""A picture at full size: what a user would pick instead against ours at each level of speed.

    python benchmarks/speed.py [--bundle FOLDER] [--ways WAY …] [--code FILE] [--output FILE.json]

Without `--bundle` a bundle of the published size with random weights is written first (11 GB of disk). All ways run in
one process, on the same weights and from the same noise. `stock` is diffusers' `StableDiffusionXLControlNetPipeline`
with its own IP-Adapter loader, fed the same checkpoint, IdentityNet given the identity tokens; `stock compiled` with
diffusers' regional compilation. Latents and pictures are compared with those of `plain`.
With `--code` a second run shows the warm-up of `compiled` in a later session.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLControlNetPipeline
from full_size_bundle import write_full_size_bundle
from own_process import GIB, row, table
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from instantid.bundle import open_bundle
from instantid.compiled_code import keep_code, read_code
from instantid.fp8 import multiply_in_fp8
from instantid.hardware import free_memory, prepare_allocator
from instantid.loading import load_bundle
from instantid.memory_plan import PlanOptions
from ip_adapter.checkpoint import read_checkpoint
from ip_adapter.identity_net import feed_tokens
from ip_adapter.speed import precision_of
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline, draw_kps

STRENGTH = 0.8
PROMPT, NEGATIVE = "a person in the snow", "blurry"
FACE = (0.4, 0.4), (0.6, 0.4), (0.5, 0.5), (0.42, 0.6), (0.58, 0.6)  # of the width and height
MATRIX = 8192  # side of the matrices whose product tells what the card can do
PICTURES = 3  # of each way, after the first
SHOWN = {  # figure -> head of its column
    "ms_per_step": "ms a step",
    "to_stock": "to stock",
    "picture_s": "picture s",
    "warm_up_s": "warm-up s",
    "peak_gib": "peak GiB",
    "reserved_gib": "reserved GiB",
    "tflops": "TFLOP/s",
    "share": "share",
}

Draw = Callable[..., Any]


class Scene:
    """The inputs that all ways are given."""

    def __init__(self, width: int, height: int, steps: int, guidance: float) -> None:
        self.width, self.height, self.steps, self.guidance = width, height, steps, guidance
        points = np.array(FACE) * (width, height)
        self.key_points = draw_kps(Image.new("RGB", (width, height)), points)
        generator = torch.Generator().manual_seed(0)
        self.embedding = torch.randn(1, 512, generator=generator)
        self.noise = torch.randn(1, 4, height // 8, width // 8, generator=generator)

    def arguments(self, pipe: StableDiffusionXLControlNetPipeline) -> dict[str, Any]:
        return {
            "prompt": PROMPT,
            "negative_prompt": NEGATIVE,
            "image": self.key_points,
            "width": self.width,
            "height": self.height,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "controlnet_conditioning_scale": STRENGTH,
            "latents": self.noise.to(precision_of(pipe.unet)),
        }


@contextmanager
def stock(ours: StableDiffusionXLInstantIDPipeline, adapter: Path, scene: Scene) -> Iterator[Draw]:
    """diffusers alone, on the networks of `ours`, which has lost its adapter inside."""
    tokens = ours._prepare_identity(
        scene.embedding,
        STRENGTH,
        None,
        {"prompt": PROMPT, "prompt_embeds": None, "guidance_scale": scene.guidance, "num_images_per_prompt": 1},
    )
    ours.unload_ip_adapter()
    parts = {name: part for name, part in ours.components.items() if name not in ("image_encoder", "feature_extractor")}
    pipe = StableDiffusionXLControlNetPipeline(**parts, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    checkpoint = read_checkpoint(adapter)
    content = {"image_proj": dict(checkpoint.image_proj), "ip_adapter": dict(checkpoint.ip_adapter)}
    dtype = pipe.unet.dtype
    pipe.load_ip_adapter(content, subfolder=None, weight_name=None, image_encoder_folder=None, low_cpu_mem_usage=False)
    pipe.unet.to(dtype)
    pipe.set_ip_adapter_scale(STRENGTH)
    hook = pipe.controlnet.register_forward_pre_hook(feed_tokens(tokens), with_kwargs=True)
    embedding = scene.embedding.to(pipe.device, dtype).view(1, 1, 1, 512)
    embeddings = [torch.cat([torch.zeros_like(embedding), embedding]) if scene.guidance > 1 else embedding]
    try:
        yield lambda **given: pipe(**scene.arguments(pipe), ip_adapter_image_embeds=embeddings, **given)
    finally:
        hook.remove()
        pipe.unload_ip_adapter()
        ours.load_ip_adapter_instantid(adapter)


@contextmanager
def stock_compiled(ours: StableDiffusionXLInstantIDPipeline, adapter: Path, scene: Scene) -> Iterator[Draw]:
    with stock(ours, adapter, scene) as draw:
        for net in (ours.unet, ours.controlnet):
            for block in net.modules():
                if type(block).__name__ in (getattr(net, "_repeated_blocks", None) or ("BasicTransformerBlock",)):
                    block.compile()
        try:
            yield draw
        finally:
            for block in (*ours.unet.modules(), *ours.controlnet.modules()):
                block._compiled_call_impl = None


@contextmanager
def plain(ours: StableDiffusionXLInstantIDPipeline, adapter: Path, scene: Scene) -> Iterator[Draw]:
    yield lambda **given: ours(
        **scene.arguments(ours), image_embeds=scene.embedding, ip_adapter_scale=STRENGTH, **given
    )


@contextmanager
def instant(ours: StableDiffusionXLInstantIDPipeline, adapter: Path, scene: Scene) -> Iterator[Draw]:
    ours.enable_cuda_graphs()
    with plain(ours, adapter, scene) as draw:
        try:
            yield draw
        finally:
            ours.disable_cuda_graphs()


@contextmanager
def compiled(ours: StableDiffusionXLInstantIDPipeline, adapter: Path, scene: Scene) -> Iterator[Draw]:
    ours.enable_compilation()
    with instant(ours, adapter, scene) as draw:
        try:
            yield draw
        finally:
            ours.disable_compilation()


@contextmanager
def compiled_fp8(ours: StableDiffusionXLInstantIDPipeline, adapter: Path, scene: Scene) -> Iterator[Draw]:
    """Rounds the weights of `ours` for good, so it comes last."""
    for net in (ours.unet, ours.controlnet):
        multiply_in_fp8(net)
    with compiled(ours, adapter, scene) as draw:
        yield draw


WAYS = {  # in the order in which they run
    "plain": plain,
    "instant": instant,
    "compiled": compiled,
    "stock": stock,
    "stock compiled": stock_compiled,
    "compiled fp8": compiled_fp8,
}


def measured(draw: Draw, pictures: int) -> dict[str, Any]:
    """First picture, then some more: seconds of each, ms a step by the GPU's own clock, peak memory, final latents.

    Where Python sets the pace it changes from picture to picture: the quickest one of several counts.
    """
    free_memory()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() / GIB

    def timed(**given: Any) -> tuple[float, Any]:
        torch.cuda.synchronize()
        start = time.perf_counter()
        out = draw(**given).images
        torch.cuda.synchronize()
        return time.perf_counter() - start, out

    events: list[torch.cuda.Event] = []

    def after_step(pipe: object, step: int, timestep: object, inputs: dict) -> dict:
        events.append(torch.cuda.Event(enable_timing=True))
        events[-1].record()
        return inputs

    first, picture = timed(output_type="np")
    seconds = [timed(output_type="np")[0] for _ in range(pictures)]
    steps = []
    for _ in range(pictures):
        events.clear()
        _, latents = timed(output_type="latent", callback_on_step_end=after_step)
        steps.append(statistics.median(start.elapsed_time(end) for start, end in pairwise(events)))
    return {
        "ms_per_step": min(steps),
        "picture_s": min(seconds),
        "first_picture_s": first,
        "warm_up_s": first - min(seconds),
        "peak_gib": torch.cuda.max_memory_allocated() / GIB,
        "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
        "weights_gib": before,
        "latents": latents.float().cpu(),
        "picture": picture[0],
    }


def seconds_of_decoding(pipe: StableDiffusionXLInstantIDPipeline, scene: Scene) -> float:
    """From latents to a picture in numpy, the quickest of several."""
    vae, before = pipe.vae, pipe.vae.dtype
    dtype = torch.float32 if vae.config.force_upcast else vae.dtype
    vae, latents = vae.to(dtype), scene.noise.to(pipe.device, dtype)
    seconds = []
    for _ in range(1 + PICTURES):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.no_grad():
            pipe.image_processor.postprocess(vae.decode(latents).sample, output_type="np")
        seconds.append(time.perf_counter() - start)
    vae.to(before)
    return min(seconds)


def matrix_tflops() -> float:
    """10¹² operations a second in products of large matrices in half precision: what the card can do."""
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.float16) for _ in range(2))
    for _ in range(5):
        a @ b
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(20):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return 20 * 2 * MATRIX**3 / (start.elapsed_time(end) / 1000) / 1e12


def tflop_per_step(draw: Draw, scene: Scene) -> float:
    """10¹² operations of a step: products, convolutions and attention, counted while two pictures are drawn."""
    counts = []
    steps = scene.steps
    for scene.steps in (1, 2):
        with FlopCounterMode(display=False) as counter:
            draw(output_type="latent")
        counts.append(counter.get_total_flops())
    scene.steps = steps
    return (counts[1] - counts[0]) / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=5.0, help="1 is none")
    parser.add_argument("--half-vae", action="store_true", help="decode in half precision, as a VAE that bears it does")
    parser.add_argument("--code", type=Path, help="compiled code: read before, written after")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    arguments = parser.parse_args()
    prepare_allocator()
    bundle = open_bundle(
        arguments.bundle or write_full_size_bundle(Path(tempfile.gettempdir()) / "instantid-full-size")
    )
    options = PlanOptions(offload="none", storage="full", speed="plain", vae_tiling=False, memory_fraction=1.0)
    pipe = load_bundle(bundle, options=options, write=lambda line: None).pipeline
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    if arguments.half_vae:
        pipe.vae.to(pipe.unet.dtype).register_to_config(force_upcast=False)
    scene = Scene(arguments.width, arguments.height, arguments.steps, arguments.guidance)
    card, rate = torch.cuda.get_device_name(), matrix_tflops()
    with plain(pipe, bundle.adapter, scene) as draw:
        work = tflop_per_step(draw, scene)
    print(f"{card}, torch {torch.__version__}, diffusers {diffusers.__version__}")
    how = f"{scene.steps} steps, guidance {scene.guidance:g}"
    how += ", a VAE in half precision" if arguments.half_vae else ""
    print(f"{scene.width} × {scene.height}, {how}; a step is {work:.2f} TFLOP")
    print(f"products of large matrices: {rate:.0f} TFLOP/s, so a step takes {work / rate * 1000:.1f} ms at least")
    decoding = seconds_of_decoding(pipe, scene)
    print(f"decoding: {decoding:.3f} s of each picture\n")
    table(("way", *SHOWN.values(), "latents differ by", "picture dB"))
    if arguments.code:
        read_code(arguments.code)
    found: dict[str, dict] = {}
    for name in (name for name in WAYS if name == "plain" or name in arguments.ways):
        try:
            with WAYS[name](pipe, bundle.adapter, scene) as draw:
                figures = measured(draw, PICTURES)
        except (RuntimeError, TypeError, ValueError) as error:  # of a compiler or a library: the other ways go on
            print(f"    {name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
            continue
        found[name] = figures
        figures["difference"] = (figures["latents"] - found["plain"]["latents"]).abs().max().item()
        error = ((figures["picture"] - found["plain"]["picture"]) ** 2).mean()
        figures["psnr"] = float(-10 * np.log10(error)) if error else None
        figures["tflops"] = work / figures["ms_per_step"] * 1000
        figures["share"] = figures["tflops"] / rate
        told = ", ".join(f"{key} {figures[key]:.4g}" for key in (*SHOWN, "difference") if key in figures)
        print(f"    {name}: {told}", flush=True)
    if arguments.code:
        keep_code(arguments.code)
    slowest = found.get("stock", found["plain"])
    for name, figures in found.items():
        del figures["latents"], figures["picture"]
        figures["to_stock"] = figures["ms_per_step"] / slowest["ms_per_step"]
        row(name, *(figures[key] for key in SHOWN), f"{figures['difference']:.4g}", figures["psnr"] or "identical")
    if arguments.output:
        facts = {"card": card, "torch": torch.__version__, "diffusers": diffusers.__version__, "matrix_tflops": rate}
        facts |= {"steps": scene.steps, "tflop_per_step": work, "decoding_s": decoding}
        arguments.output.write_text(json.dumps(facts | {"ways": found}, indent=2))


if __name__ == "__main__":
    main()
