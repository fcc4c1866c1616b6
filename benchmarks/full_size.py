"""A picture at full size, once per way of using memory: time, peak memory, and whether the face is still there.

    python benchmarks/full_size.py [--bundle FOLDER] [--photo FILE] [--output FILE.json]

Without `--bundle` a bundle of the published size with random weights is written first (11 GB of disk). Each way loads
anew in this process through the loader of the application, makes the same picture (same seed) and another one with
another face. Ratios are to the first way, in this run. Small cards are imitated by a limit on this process's memory.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionXLControlNetPipeline
from full_size_bundle import write_full_size_bundle
from PIL import Image

from instantid.bundle import open_bundle
from instantid.generation import generate_image
from instantid.hardware import GIB, free_memory
from instantid.loading import Models, load_bundle
from instantid.memory_plan import PlanOptions
from instantid.request import GenerationRequest
from ip_adapter.errors import InstantIDError

T4_GIB = 0.8 * 14.6
# Name -> options, and the memory of the card in GiB that is imitated (None: all of it).
WAYS: dict[str, tuple[PlanOptions, float | None]] = {
    "resident": (PlanOptions(offload="none"), None),
    "attention slicing": (PlanOptions(offload="none", attention_slicing=True), None),
    "resident, T4": (PlanOptions(offload="none", vae_tiling=True), T4_GIB),
    "model offload": (PlanOptions(offload="model"), None),
    "model offload, 9 GiB": (PlanOptions(offload="model", vae_tiling=True), 9.0),
    "sequential offload": (PlanOptions(offload="sequential", vae_tiling=True), None),
}


def measure(bundle, request: GenerationRequest, options: PlanOptions, limit_gib: float | None) -> dict:
    """Load, make a picture twice (the second is timed) and one of another face."""
    total = torch.cuda.mem_get_info()[1] / GIB
    fraction = min(limit_gib / total, 1.0) if limit_gib else 1.0
    start = time.perf_counter()
    models = load_bundle(
        bundle, options=dataclasses.replace(options, memory_fraction=fraction), write=lambda line: None
    )
    load_seconds = time.perf_counter() - start
    resident_gib = torch.cuda.memory_allocated() / GIB
    generate_image(models, dataclasses.replace(request, steps=2))
    result = generate_image(models, request)
    other = generate_image(models, dataclasses.replace(request, face_index=1, pose=request.face))
    plain_ms = plain_ms_per_step(models, request) if options.offload == "none" else None
    pictures = [np.asarray(r.images[0], dtype=np.float32) for r in (result, other)]
    return {
        "load_seconds": load_seconds,
        "resident_gib": resident_gib,
        "peak_gib": result.peak_vram_gib,
        "plain_diffusers_ms_per_step": plain_ms,
        "ms_per_step": 1000 * result.seconds["denoising"] / request.steps,
        "seconds": result.seconds,
        "picture": pictures[0],
        "face_changes_picture_by": float(np.abs(pictures[0] - pictures[1]).mean()),
    }


def plain_ms_per_step(models: Models, request: GenerationRequest) -> float:
    """The same denoising by diffusers' own pipeline on the same models, IdentityNet reading the text: no identity."""
    identity = models.pipeline
    identity.unload_ip_adapter()
    plain = StableDiffusionXLControlNetPipeline(**identity.components)
    plain.set_progress_bar_config(disable=True)
    times = []

    def after_step(pipeline, step, timestep, tensors):
        torch.cuda.synchronize()
        times.append(time.perf_counter())
        return tensors

    picture = Image.new("RGB", (request.width, request.height))
    for steps in (2, request.steps):
        times.clear()
        plain(
            request.prompt,
            image=picture,
            width=request.width,
            height=request.height,
            num_inference_steps=steps,
            guidance_scale=request.guidance_scale,
            callback_on_step_end=after_step,
            output_type="latent",
        )
    return 1000 * (times[-1] - times[0]) / (len(times) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    arguments = parser.parse_args()
    bundle = open_bundle(
        arguments.bundle or write_full_size_bundle(Path(tempfile.gettempdir()) / "instantid-full-size")
    )
    free_memory()
    photo = arguments.photo
    if photo is None:
        from insightface.data import get_image

        photo = get_image("t1", to_rgb=True)
    request = GenerationRequest(
        face=photo,
        prompt="a person in the snow",
        seed=0,
        steps=arguments.steps,
        width=arguments.size,
        height=arguments.size,
    )
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, diffusers {diffusers.__version__}")
    print(f"{arguments.size} × {arguments.size}, {arguments.steps} steps, guidance on, fp16")
    print(
        "| way | load s | resident GiB | peak GiB | ms/step | decode s | picture s | ratio | same picture | face acts |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    table, first = {}, None
    for name in arguments.ways:
        options, limit = WAYS[name]
        try:
            figures = measure(bundle, request, options, limit)
        except InstantIDError as error:
            table[name] = {"error": str(error)}
            print(f"| {name} | {error} |")
            free_memory()
            continue
        free_memory()
        picture, seconds = figures.pop("picture"), figures["seconds"]
        first = first or (seconds["total"], picture)
        figures["ratio"] = seconds["total"] / first[0]
        figures["largest_difference"] = float(np.abs(picture - first[1]).max())
        table[name] = figures
        print(
            f"| {name} | {figures['load_seconds']:.1f} | {figures['resident_gib']:.2f} | {figures['peak_gib']:.2f} "
            f"| {figures['ms_per_step']:.0f} | {seconds['decoding']:.2f} | {seconds['total']:.2f} "
            f"| {figures['ratio']:.2f} | ±{figures['largest_difference']:.0f} of 255 "
            f"| {figures['face_changes_picture_by']:.1f} of 255 |",
            flush=True,
        )
        if plain := figures["plain_diffusers_ms_per_step"]:
            print(f"  the same steps in plain diffusers, without identity: {plain:.0f} ms each")
    if arguments.output:
        arguments.output.write_text(json.dumps({"card": torch.cuda.get_device_name(), "ways": table}, indent=2))


if __name__ == "__main__":
    main()
