"""A picture at full size on imitated cards: which plan is made for each, whether it holds, what it costs.

    python benchmarks/cards.py [--bundle FOLDER] [--photo FILE] [--output FILE.json]

Without `--bundle` a bundle of the published size with random weights is written first (11 GB of disk). Each card is
imitated by its numbers, which the plan is made from, and by a limit on the memory of the process. Each runs in a
process of its own, through the application's loader and `generate_image`, and makes the same picture (same seed).
Times are ratios to the first row, in this run; pictures are compared with the first row's, and with that of the first
row whose VAE works in the same tiles.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
from full_size_bundle import write_full_size_bundle
from insightface.data import get_image
from own_process import GIB, anonymous_gib, anonymous_peak, measured_alone, row, table

from instantid.bundle import open_bundle
from instantid.generation import generate_image
from instantid.hardware import Hardware, detect_hardware, prepare_allocator
from instantid.loading import load_bundle
from instantid.memory_plan import PlanOptions
from instantid.request import GenerationRequest


@dataclasses.dataclass(frozen=True)
class Card:
    """An imitated machine; GiB."""

    vram: float
    limit: float  # what the process may take of it
    ram: float  # free
    options: PlanOptions = dataclasses.field(default_factory=PlanOptions)


CARDS = {
    "all of the card": Card(79.0, 79.0, 64.0),
    "T4, free Colab": Card(14.6, 0.8 * 14.6, 10.5),
    "12 GiB": Card(12.0, 11.0, 12.0),
    "8 GiB": Card(8.0, 7.3, 12.0),
    "6 GiB": Card(6.0, 5.4, 9.0),
    "4 GiB": Card(4.0, 3.6, 14.0),
    "model offload": Card(79.0, 79.0, 64.0, PlanOptions(offload="model")),
}
FEW_STEPS = 4  # enough to see whether another face gives another picture
PHASES = ("text", "denoising", "decoding")


def imitated(card: Card) -> Hardware:
    real = detect_hardware()
    return dataclasses.replace(
        real, vram_total_gib=card.vram, vram_free_gib=min(card.vram, card.limit), ram_free_gib=card.ram
    )


def draw(name: str, bundle: Path, request: GenerationRequest, picture: Path) -> dict:
    card = CARDS[name]
    prepare_allocator()  # before anything asks CUDA
    hardware = imitated(card)
    options = dataclasses.replace(card.options, memory_fraction=card.limit / card.vram)
    torch.zeros(1, device="cuda")
    ram_before = anonymous_gib()
    with anonymous_peak() as ram:
        models = load_bundle(open_bundle(bundle), options=options, hardware=hardware, write=lambda line: None)
        loaded_gib = torch.cuda.memory_allocated() / GIB
        few = dataclasses.replace(request, steps=FEW_STEPS)
        mine, others = (
            np.asarray(generate_image(models, dataclasses.replace(few, face_index=i, pose=few.face)).images[0], float)
            for i in (0, 1)
        )
        times: list[float] = []
        result = generate_image(
            models, request, lambda progress: progress.stage == "denoising" and times.append(progress.seconds)
        )
    np.save(picture, np.asarray(result.images[0]))
    plan = models.plan
    return {
        "plan": f"{plan.offload}, {plan.storage}, tile {plan.vae_tile}",
        "tile": plan.vae_tile,
        "loaded_gib": loaded_gib,
        "predicted_gib": plan.peak_vram_gib,
        "predicted": plan.vram_gib,
        "measured_gib": result.peak_vram_gib,
        "measured": result.stage_peaks,
        "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
        "ram_gib": ram["gib"],
        "ram_before_gib": ram_before,
        "ms_per_step": 1000 * (times[-1] - times[0]) / (len(times) - 1),
        "seconds": result.seconds,
        "face_changes_picture_by": float(np.abs(mine - others).mean()),
        "notes": [note.key for note in result.notes],
    }


def compared(picture: np.ndarray, first: np.ndarray) -> str:
    """PSNR in dB, or that nothing differs."""
    error = ((picture.astype(float) - first.astype(float)) ** 2).mean()
    return f"{10 * np.log10(255**2 / error):.1f} dB" if error else "identical"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cards", nargs="+", choices=tuple(CARDS), default=tuple(CARDS))
    arguments = parser.parse_args()
    size = {"width": arguments.width, "height": arguments.height}
    photo = arguments.photo or get_image("t1", to_rgb=True)
    request = GenerationRequest(face=photo, prompt="a person in the snow", seed=0, steps=arguments.steps, **size)
    bundle = arguments.bundle or write_full_size_bundle(Path(tempfile.gettempdir()) / "instantid-full-size")
    torch.cuda.empty_cache()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, diffusers {diffusers.__version__}")
    print(f"{arguments.width} × {arguments.height}, {arguments.steps} steps, guidance on\n")
    memory = ("limit", "predicted GiB", "measured", "reserved", "RAM")
    table(
        ("card", "plan", *memory, "ms a step", "decode s", "picture s", "ratio", "picture", "same tile", "face acts by")
    )
    everything, first, same_tile = {}, None, {}
    for name in arguments.cards:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "picture.npy"
            figures = measured_alone(draw, name, bundle, request, file)
            picture = np.load(file) if file.exists() else None
        everything[name] = figures
        if "error" in figures:
            row(name, figures["error"])
            continue
        seconds = figures["seconds"]
        first = first or (seconds["total"], picture)
        figures["ratio"] = seconds["total"] / first[0]
        figures["picture"] = compared(picture, first[1])
        figures["same_tile"] = compared(picture, same_tile.setdefault(figures["tile"], picture))
        row(
            name,
            figures["plan"],
            CARDS[name].limit,
            *(figures[key] for key in ("predicted_gib", "measured_gib", "reserved_gib", "ram_gib", "ms_per_step")),
            seconds["decoding"],
            seconds["total"],
            figures["ratio"],
            figures["picture"],
            figures["same_tile"],
            figures["face_changes_picture_by"],
        )
        for phase in PHASES:
            print(
                f"    {phase}: {figures['predicted'].get(phase)} predicted, {figures['measured'].get(phase)} measured"
            )
    if arguments.output:
        arguments.output.write_text(json.dumps({"card": torch.cuda.get_device_name(), "cards": everything}, indent=2))


if __name__ == "__main__":
    main()
