"""`ip-adapter.bin` -> `.safetensors`: half the size, no pickle, mapped without unpacking."""

from pathlib import Path

import torch

from ip_adapter.checkpoint import read_checkpoint, write_checkpoint
from ip_adapter.geometry import read_geometry


def convert_to_safetensors(
    source: str | Path, target: str | Path | None = None, dtype: torch.dtype = torch.float16
) -> Path:
    """Write `source` again as safetensors, identity layers in `dtype`; `preferred_file` finds it from then on.

    The Resampler keeps its stored precision: it runs in float32, so a picture made in `dtype` stays the same bit for
    bit. The geometry that loading would use is written into the file.

    Args:
        target: default is `source` with the suffix `.safetensors`.

    Raises: UserError as `read_checkpoint` and `read_geometry` do.
    """
    source = Path(source)
    checkpoint = read_checkpoint(source)
    geometry = read_geometry(checkpoint)
    target = Path(target) if target else source.with_suffix(".safetensors")
    partial = target.with_name(target.stem + ".partial.safetensors")  # cut short, it is not taken for the whole
    layers = {key: tensor.to(dtype) for key, tensor in checkpoint.ip_adapter.items()}
    write_checkpoint(partial, checkpoint.image_proj, layers, geometry.heads, geometry.dim_head)
    partial.replace(target)
    return target
