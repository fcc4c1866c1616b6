"""Loading at full size: seconds and anonymous RAM, the original's way against ours, from a cold and a warm disk cache.

    PYTHONPATH=.:tests python benchmarks/loading.py [--bundle FOLDER] [--output FILE.json]

Without `--bundle` random weights of the published size are written first; a copy in float32 and one of the base model
as a single file are written beside it (40 GB of disk in all). Linux with an NVIDIA GPU. Each row runs in a process of
its own and counts from after the imports and the start of CUDA. A cold cache: the kernel is asked to forget the files.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline
from full_size_bundle import write_full_size_bundle
from own_process import GIB, anonymous_peak, measured_alone, row, stopwatch, table
from safetensors.torch import load_file, save_file
from single_file import write_single_file

from instantid.bundle import open_bundle
from instantid.hardware import prepare_allocator
from instantid.loading import load_bundle
from instantid.memory_plan import PlanOptions

LAYOUTS = ("fp16 folder", "single file", "fp32 folder")
WAYS = ("original", "ours")


def original(bundle: Path) -> object:
    """As the published demo loads: every model on the CPU, then to the GPU; the adapter's pickle read twice."""
    half = {"torch_dtype": torch.float16}
    identitynet = ControlNetModel.from_pretrained(bundle / "ControlNetModel", **half)
    base = bundle / "base"
    read = StableDiffusionXLControlNetPipeline.from_pretrained
    if not base.exists():
        base = bundle / "base.safetensors"
        read = StableDiffusionXLControlNetPipeline.from_single_file
        half |= {"config": str(bundle / "base_config")}
    pipeline = read(str(base), controlnet=identitynet, add_watermarker=False, local_files_only=True, **half).to("cuda")
    adapter = bundle / "ip-adapter.bin"
    resampler = torch.load(adapter, map_location="cpu", weights_only=True)["image_proj"]
    layers = torch.load(adapter, map_location="cpu", weights_only=True)["ip_adapter"]
    held = [tensor.to("cuda") for tensor in (*resampler.values(), *layers.values())]
    return pipeline, held


def ours(bundle: Path) -> object:
    options = PlanOptions(offload="none", storage="full", memory_fraction=1.0)
    return load_bundle(open_bundle(bundle), options=options, write=lambda line: None)


def load(way: str, bundle: Path) -> dict:
    if way == "ours":
        prepare_allocator()
    torch.zeros(1, device="cuda")
    with anonymous_peak() as ram, stopwatch() as clock:
        models = {"original": original, "ours": ours}[way](bundle)
        torch.cuda.synchronize()
    resident = torch.cuda.memory_allocated() / GIB
    del models
    return {"seconds": clock["seconds"], "anonymous_gib": ram["gib"], "resident_gib": resident}


def forget(folder: Path) -> None:
    """Takes the files of `folder` out of the disk cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def written(layout: str, bundle: Path) -> Path:
    """The bundle in this layout; made of `bundle` beside it where it is missing."""
    folder = bundle if layout == LAYOUTS[0] else bundle.with_name(f"{bundle.name}-{layout.replace(' ', '-')}")
    if not folder.exists():
        {"single file": write_single, "fp32 folder": write_wide}[layout](bundle, folder)
    return folder


def write_single(bundle: Path, folder: Path) -> None:
    for part in ("ControlNetModel", "antelopev2"):
        shutil.copytree(bundle / part, folder / part, copy_function=os.link)
    os.link(bundle / "ip-adapter.bin", folder / "ip-adapter.bin")
    write_single_file(bundle / "base", folder / "base.safetensors")
    shutil.copytree(bundle / "base", folder / "base_config", ignore=shutil.ignore_patterns("*.safetensors"))


def write_wide(bundle: Path, folder: Path) -> None:
    for file in (file for file in bundle.rglob("*") if file.is_file()):
        copy = folder / file.relative_to(bundle)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            save_file({name: tensor.float() for name, tensor in load_file(file).items()}, copy, {"format": "pt"})
        else:
            os.link(file, copy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    arguments = parser.parse_args()
    bundle = arguments.bundle or write_full_size_bundle(Path(tempfile.gettempdir()) / "instantid-full-size")
    torch.cuda.empty_cache()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    table(("layout", "cache", "original s", "ours s", "ratio", "original RAM GiB", "ours RAM GiB", "VRAM GiB"))
    figures: dict[str, dict] = {}
    for layout in arguments.layouts:
        folder = written(layout, bundle)
        for cache in ("cold", "warm"):
            of = {}
            for way in WAYS:
                if cache == "cold":
                    forget(folder)
                of[way] = measured_alone(load, way, folder)
            figures[f"{layout}, {cache}"] = of
            if errors := {way: found["error"] for way, found in of.items() if "error" in found}:
                row(layout, cache, errors)
                continue
            seconds = [of[way]["seconds"] for way in WAYS]
            ram = [of[way]["anonymous_gib"] for way in WAYS]
            row(layout, cache, *seconds, seconds[1] / seconds[0], *ram, of["ours"]["resident_gib"])
    if arguments.output:
        arguments.output.write_text(json.dumps({"card": torch.cuda.get_device_name(), "loading": figures}, indent=2))


if __name__ == "__main__":
    main()
