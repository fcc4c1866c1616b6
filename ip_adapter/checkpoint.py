"""Read and write the adapter file: `ip-adapter.bin` or `.safetensors`.

`ip-adapter.bin` is a torch pickle `{"image_proj": {...}, "ip_adapter": {...}}`; the safetensors form holds the same
tensors under `image_proj.` and `ip_adapter.`. Both may carry the Resampler's head geometry (ours do): the pickle as
`"resampler": {"heads": …, "dim_head": …}`, safetensors as JSON under `resampler` in the file's metadata.
"""

import json
import logging
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ip_adapter.errors import UserError

logger = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]
PARTS = ("image_proj", "ip_adapter")
GEOMETRY_KEY = "resampler"


@dataclass(frozen=True)
class AdapterCheckpoint:
    """An adapter file as it stands on disk; tensors are mapped from the file, not copied."""

    path: Path
    image_proj: Tensors  # the Resampler's state dict
    ip_adapter: Tensors  # "{n}.to_k_ip.weight", "{n}.to_v_ip.weight"; n counts all attention processors of the UNet
    geometry: dict[str, int] | None  # {"heads", "dim_head"} if the file says


def preferred_file(path: str | Path) -> Path:
    """The converted `.safetensors` beside `path` if there is one at least as new, else `path` itself."""
    path = Path(path)
    converted = path.with_suffix(".safetensors")
    if path.suffix == ".safetensors" or not converted.is_file():
        return path
    outdated = path.is_file() and path.stat().st_mtime > converted.stat().st_mtime
    return path if outdated else converted


def read_checkpoint(path: str | Path) -> AdapterCheckpoint:
    """Map an adapter file into memory, without running code that a pickle may hold.

    Raises: UserError if the file is missing, empty, a saved web page, a pointer file, cut short, an unsafe pickle, or
        not an InstantID adapter; the sentence names the file and what to do.
    """
    path = Path(path)
    _refuse_what_is_not_weights(path)
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
        parts = {part: _strip(tensors, part + ".") for part in PARTS}
        geometry = json.loads(metadata[GEOMETRY_KEY]) if GEOMETRY_KEY in metadata else None
    else:
        content = _read_pickle(path)
        parts = {part: content.get(part) for part in PARTS}
        geometry = content.get(GEOMETRY_KEY)
    if not all(_is_state_dict(parts[part]) for part in PARTS) or "latents" not in parts["image_proj"]:
        raise UserError(
            "adapter.other_kind",
            "{path} is not an InstantID adapter: it must hold a Resampler (image_proj.latents …) and identity layers "
            "(ip_adapter.1.to_k_ip.weight …). Use ip-adapter.bin from the InstantID repository.",
            path=path,
        )
    return AdapterCheckpoint(path, parts["image_proj"], parts["ip_adapter"], geometry)


def write_checkpoint(
    path: str | Path,
    image_proj: Mapping[str, torch.Tensor],
    ip_adapter: Mapping[str, torch.Tensor],
    heads: int | None = None,
    dim_head: int | None = None,
) -> Path:
    """Write an adapter file; `.safetensors` or a pickle by the name's suffix. The geometry is stored when given."""
    path = Path(path)
    geometry = {"heads": heads, "dim_head": dim_head} if heads and dim_head else None
    if path.suffix == ".safetensors":
        tensors = {f"image_proj.{k}": v.contiguous() for k, v in image_proj.items()}
        tensors |= {f"ip_adapter.{k}": v.contiguous() for k, v in ip_adapter.items()}
        metadata = {"format": "pt"} | ({GEOMETRY_KEY: json.dumps(geometry)} if geometry else {})
        safetensors.torch.save_file(tensors, path, metadata=metadata)
    else:
        content = {"image_proj": dict(image_proj), "ip_adapter": dict(ip_adapter)}
        torch.save(content | ({GEOMETRY_KEY: geometry} if geometry else {}), path)
    return path


def _refuse_what_is_not_weights(path: Path) -> None:
    if not path.is_file():
        raise UserError(
            "adapter.missing",
            "There is no adapter file at {path}. Give the path of ip-adapter.bin or ip-adapter.safetensors.",
            path=path,
        )
    with path.open("rb") as file:
        start = file.read(256).lstrip()
    if not start:
        raise UserError(
            "adapter.empty", "{path} is empty: the download went wrong. Delete it and download again.", path=path
        )
    if start.startswith(b"<"):
        raise UserError(
            "adapter.web_page",
            "{path} ({size} bytes) is a web page, not weights: the download went wrong. Delete it and download again.",
            path=path,
            size=path.stat().st_size,
        )
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            "adapter.pointer",
            "{path} ({size} bytes) is a Git LFS pointer, not weights. Run “git lfs pull”, or download the file again.",
            path=path,
            size=path.stat().st_size,
        )


def _read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in list(file.keys())}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise _cut_short(path, error) from error


def _read_pickle(path: Path) -> Mapping:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the pickle's age; the outcome says enough
            # Files of the zip kind can be mapped; the older kind has to be read.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise UserError(
            "adapter.unsafe",
            "{path} is not a plain table of weights and was not opened, because it could run code. Use ip-adapter.bin "
            "from the InstantID repository.",
            path=path,
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _cut_short(path, error) from error
    return content if isinstance(content, Mapping) else {}


def _cut_short(path: Path, error: Exception) -> UserError:
    logger.debug("reading %s failed: %s", path, error)
    return UserError(
        "adapter.truncated",
        "{path} ({size} bytes) is damaged or cut short and cannot be read. Delete it and download again.",
        path=path,
        size=path.stat().st_size,
    )


def _strip(tensors: Tensors, prefix: str) -> Tensors:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _is_state_dict(part: object) -> bool:
    return isinstance(part, Mapping) and len(part) > 0 and all(isinstance(v, torch.Tensor) for v in part.values())
