"""How large the parts of a bundle are, read from the headers of their files: no weights, milliseconds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from instantid.bundle import Bundle, weight_files
from ip_adapter.checkpoint import preferred_file, read_checkpoint

# Bytes of one number. Those of other kinds (positions, counters) are no parameters.
BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
SAFETENSORS_NAMES = dict(zip(("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"), BYTES))

# What the names of a part's tensors begin with in Stability's layout of one file.
SINGLE_FILE_PREFIXES = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoders": ("conditioner.embedders.0.", "conditioner.embedders.1."),
}
FOLDERS = {"unet": ("unet",), "vae": ("vae",), "text_encoders": ("text_encoder", "text_encoder_2")}

Tensor = tuple[str, str | None, int]  # name, one of `BYTES` or anything else, number of elements


@dataclass(frozen=True)
class ComponentSize:
    """One part as it lies on disk."""

    parameters: int
    bytes_on_disk: int
    precision: str  # torch's name of the one that most of its bytes are in: "float16", "float32", "bfloat16" …


@dataclass(frozen=True)
class ComponentSizes:
    """Every part of a bundle that takes memory on the GPU."""

    unet: ComponentSize
    identitynet: ComponentSize
    text_encoders: ComponentSize  # both together
    vae: ComponentSize
    identity_layers: ComponentSize  # keys and values of the identity attention, part of the UNet once loaded
    resampler: ComponentSize
    vae_overflows: bool = True  # whether the base says that its VAE cannot decode in half precision; SDXL's own cannot
    native_size: int = 1024  # pixels: the square side that the base was made for


def component_sizes(bundle: Bundle) -> ComponentSizes:
    """The sizes of an opened bundle: of those files that the loader takes.

    Raises: UserError if the adapter cannot be read; the other files are checked when the bundle is opened.
    """
    if bundle.base.is_file():
        tensors = list(_headers([bundle.base]))
        base = {part: _size(_beginning(tensors, prefixes)) for part, prefixes in SINGLE_FILE_PREFIXES.items()}
    else:
        base = {
            part: _size(_headers(file for name in names for file in _files(bundle.base / name)))
            for part, names in FOLDERS.items()
        }
    adapter = list(_adapter(preferred_file(bundle.adapter)))
    return ComponentSizes(
        **base,
        identitynet=_size(_headers(_files(bundle.identitynet))),
        identity_layers=_size(_beginning(adapter, ("ip_adapter.",))),
        resampler=_size(_beginning(adapter, ("image_proj.",))),
        **_described(bundle.base_config if bundle.base.is_file() else bundle.base),
    )


def _described(base: Path | None) -> dict[str, bool | int]:
    """What the descriptions of a base's models say; what they leave out is as in SDXL.

    Whoever loads the models says what is wrong with a description that cannot be read.
    """
    try:
        unet, vae = (json.loads((base / name / "config.json").read_text(encoding="utf-8")) for name in ("unet", "vae"))
        scale = 2 ** (len(vae["block_out_channels"]) - 1)  # pixels to a latent
        return {"vae_overflows": vae.get("force_upcast", True), "native_size": unet.get("sample_size", 128) * scale}
    except (TypeError, AttributeError, KeyError, ValueError, OSError):
        return {}


def _files(folder: Path) -> list[Path]:
    """The .safetensors files that make up one model; an index names its parts."""
    chosen = weight_files(path.name for path in folder.iterdir())
    for index in (folder / name for name in chosen if name.endswith(".json")):
        chosen = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return [folder / name for name in chosen]


def _headers(files: Iterable[Path]) -> Iterator[Tensor]:
    for file in files:
        with safe_open(file, framework="np") as header:
            for name in sorted(header.keys()):
                tensor = header.get_slice(name)
                yield name, SAFETENSORS_NAMES.get(tensor.get_dtype()), math.prod(tensor.get_shape())


def _adapter(file: Path) -> Iterator[Tensor]:
    if file.suffix == ".safetensors":
        yield from _headers([file])
        return
    checkpoint = read_checkpoint(file)  # mapped: what is not looked at takes no RAM
    for part in ("image_proj", "ip_adapter"):
        for name, tensor in getattr(checkpoint, part).items():
            yield f"{part}.{name}", str(tensor.dtype).removeprefix("torch."), tensor.numel()


def _beginning(tensors: Iterable[Tensor], prefixes: tuple[str, ...]) -> Iterator[Tensor]:
    return (tensor for tensor in tensors if tensor[0].startswith(prefixes))


def _size(tensors: Iterable[Tensor]) -> ComponentSize:
    counts: Counter[str] = Counter()
    for _, precision, count in tensors:
        if precision in BYTES:
            counts[precision] += count
    sizes = Counter({precision: count * BYTES[precision] for precision, count in counts.items()})
    return ComponentSize(counts.total(), sizes.total(), max(sizes, key=sizes.get, default="float32"))
