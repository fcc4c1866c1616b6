"""A picture at full size, once per way of using memory: time, peak memory, and whether the face is still there.

    python benchmarks/full_size.py [--bundle FOLDER] [--photo FILE] [--output FILE.json]

Without `--bundle` a bundle of the published size with random weights is written first (11 GB of disk). Each way runs in
a process of its own, through the loader and the `generate_image` of the application, and makes the same picture (same
seed). Ratios are to the first way, in this run. Small cards are imitated by a limit on the process's memory.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionXLControlNetPipeline
from full_size_bundle import write_full_size_bundle
from insightface.data import get_image
from PIL import Image

from instantid.bundle import open_bundle
from instantid.generation import generate_image
from instantid.hardware import GIB
from instantid.loading import Models, load_bundle
from instantid.memory_plan import PlanOptions
from instantid.request import GenerationRequest
from ip_adapter.errors import InstantIDError

T4_GIB = 0.8 * 14.6
# Name -> options, and the memory in GiB that is imitated (None: all of the card's).
WAYS: dict[str, tuple[PlanOptions, float | None]] = {
    "resident": (PlanOptions(offload="none"), None),
    "attention slicing": (PlanOptions(offload="none", attention_slicing=True), None),
    "resident, T4": (PlanOptions(offload="none", vae_tiling=True), T4_GIB),
    "model offload": (PlanOptions(offload="model"), None),
    "model offload, 9 GiB": (PlanOptions(offload="model", vae_tiling=True), 9.0),
    "sequential offload": (PlanOptions(offload="sequential", vae_tiling=True), None),
}
FEW_STEPS = 4  # enough to see whether another face gives another picture


def measure(way: str, bundle: Path, request: GenerationRequest) -> tuple[dict, np.ndarray]:
    """Load, warm up, time one picture, and compare two faces at few steps."""
    options, limit_gib = WAYS[way]
    fraction = min((limit_gib or 1e9) / (torch.cuda.mem_get_info()[1] / GIB), 1.0)
    start = time.perf_counter()
    options = dataclasses.replace(options, memory_fraction=fraction)
    models = load_bundle(open_bundle(bundle), options=options, write=lambda line: None)
    load_seconds = time.perf_counter() - start
    resident_gib = torch.cuda.memory_allocated() / GIB
    few = dataclasses.replace(request, steps=FEW_STEPS)
    mine, others = (
        np.asarray(generate_image(models, dataclasses.replace(few, face_index=i, pose=few.face)).images[0], np.float32)
        for i in (0, 1)
    )
    times = []
    result = generate_image(
        models, request, lambda progress: progress.stage == "denoising" and times.append(progress.seconds)
    )
    figures = {
        "load_seconds": load_seconds,
        "resident_gib": resident_gib,
        "peak_gib": result.peak_vram_gib,
        "ms_per_step": 1000 * (times[-1] - times[0]) / (len(times) - 1),
        "seconds": result.seconds,
        "face_changes_picture_by": float(np.abs(mine - others).mean()),
    }
    if options.offload == "none":
        figures["plain_ms_per_step"] = plain_ms_per_step(models, request)
    return figures, np.asarray(result.images[0])


def plain_ms_per_step(models: Models, request: GenerationRequest) -> float:
    """The same denoising by diffusers' own pipeline on the same models, IdentityNet reading the text: no identity."""
    identity = models.pipeline
    identity.unload_ip_adapter()
    plain = StableDiffusionXLControlNetPipeline(**identity.components)
    plain.set_progress_bar_config(disable=True)
    times = []

    def after_step(pipeline, step, timestep, tensors):
        times.append(time.perf_counter())
        return tensors

    plain(
        request.prompt,
        image=Image.new("RGB", (request.width, request.height)),
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        callback_on_step_end=after_step,
        output_type="latent",
    )
    return 1000 * (times[-1] - times[0]) / (len(times) - 1)


def in_own_process(way: str, bundle: Path, arguments: argparse.Namespace) -> tuple[dict, np.ndarray | None]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--bundle", bundle, "--ways", way, "--child", folder]
        command += ["--size", arguments.size, "--steps", arguments.steps]
        command += ["--photo", arguments.photo] if arguments.photo else []
        subprocess.run([str(part) for part in command], check=True)
        figures = json.loads((Path(folder) / "figures.json").read_text())
        picture = Path(folder) / "picture.npy"
        return figures, np.load(picture).astype(float) if picture.exists() else None


def child(way: str, request: GenerationRequest, arguments: argparse.Namespace) -> None:
    try:
        figures, picture = measure(way, arguments.bundle, request)
        np.save(arguments.child / "picture.npy", picture)
    except InstantIDError as error:
        figures = {"error": str(error)}
    (arguments.child / "figures.json").write_text(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        photo = arguments.photo or get_image("t1", to_rgb=True)
        size = {"width": arguments.size, "height": arguments.size}
        request = GenerationRequest(face=photo, prompt="a person in the snow", seed=0, steps=arguments.steps, **size)
        child(arguments.ways[0], request, arguments)
        return
    bundle = arguments.bundle or write_full_size_bundle(Path(tempfile.gettempdir()) / "instantid-full-size")
    torch.cuda.empty_cache()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, diffusers {diffusers.__version__}")
    print(f"{arguments.size} × {arguments.size}, {arguments.steps} steps, guidance on, fp16\n")
    columns = ("way", "load s", "resident GiB", "peak GiB", "ms a step", "decode s", "picture s", "ratio", "differs by")
    columns += ("face acts by",)
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    table, first = {}, None
    for way in arguments.ways:
        figures, picture = in_own_process(way, bundle, arguments)
        table[way] = figures
        if "error" in figures:
            print(f"| {way} | {figures['error']} |", flush=True)
            continue
        seconds = figures["seconds"]
        first = first or (seconds["total"], picture)
        figures["ratio"] = seconds["total"] / first[0]
        figures["differs_by"] = float(np.abs(picture - first[1]).max())
        cells = [way, f"{figures['load_seconds']:.1f}"]
        cells += [f"{figures['resident_gib']:.2f}", f"{figures['peak_gib']:.2f}", f"{figures['ms_per_step']:.0f}"]
        cells += [f"{seconds['decoding']:.2f}", f"{seconds['total']:.2f}", f"{figures['ratio']:.2f}"]
        cells += [f"{figures['differs_by']:.0f}/255", f"{figures['face_changes_picture_by']:.1f}/255"]
        print(f"| {' | '.join(cells)} |", flush=True)
    for way, figures in table.items():
        if "plain_ms_per_step" in figures:
            print(f"{way}: the same steps in plain diffusers, without identity: {figures['plain_ms_per_step']:.0f} ms")
    if arguments.output:
        arguments.output.write_text(json.dumps({"card": torch.cuda.get_device_name(), "ways": table}, indent=2))


if __name__ == "__main__":
    main()
