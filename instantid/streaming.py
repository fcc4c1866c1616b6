"""Weights on their way: from mapped safetensors files straight to where they will live, in their final precision.

A model is built without memory, its parameters become views of the mapped file, and each view is copied once, to its
place. On the processor in the file's own precision nothing is copied at all: the parameters stay views, private to this
process (writing to one changes no file), and their pages are the kernel's to drop and read again.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from typing import BinaryIO

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, ConfigMixin, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from instantid.bundle import weight_files

Tensors = dict[str, torch.Tensor]

# A single file in Stability's layout -> the tensors of one model under its own names.
CONVERSIONS = {
    UNet2DConditionModel: lambda model, checkpoint: convert_ldm_unet_checkpoint(checkpoint, model.config),
    AutoencoderKL: lambda model, checkpoint: convert_ldm_vae_checkpoint(checkpoint, model.config),
    CLIPTextModel: lambda model, checkpoint: convert_ldm_clip_checkpoint(checkpoint),
    CLIPTextModelWithProjection: lambda model, checkpoint: convert_open_clip_checkpoint(
        model, checkpoint, prefix="conditioner.embedders.1.model."
    ),
}
# Attention of a VAE before diffusers 0.14 -> since then.
OLD_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# What files of a text encoder also hold, where other programs wrote them: computed, or for comparing with pictures.
NEEDLESS = ("position_ids", "logit_scale", "text_projection.weight")

READ_AHEAD_STEP = 32 * 2**20  # bytes; after each the thread waits for its turn with Python


@dataclass(frozen=True)
class Transfer:
    """How weights travel from files to a CUDA device; the constants of one way to measure.

    A thread reads a piece of the file into a buffer that the card can fetch from by itself (pinned), while the buffers
    of the other threads are on their way.
    """

    threads: int = 8  # on an H100, of a UNet in the page cache: 1 takes 1.6 s, 4 0.5 s, 8 0.3 s
    piece: int = (
        16 * 2**20
    )  # bytes of each buffer: under a millisecond on the bus, 128 MiB of RAM in all; 0 = no buffer
    pinned: bool = True
    reads: bool = True  # read the file; otherwise copy its mapped pages, of which each costs a page fault (3 × slower)


TRANSFER = Transfer()


class MappedFile:
    """A safetensors file, its tensors as views of its mapped pages, and the file itself to read them from.

    Attributes:
        tensors: name -> view.
    """

    def __init__(self, path: Path) -> None:
        self.tensors: Tensors = load_file(path)
        self._path = path
        with path.open("rb") as file:
            header = 8 + int.from_bytes(file.read(8), "little")
        starts = [tensor.data_ptr() for tensor in self.tensors.values()]
        ends = [tensor.data_ptr() + tensor.nbytes for tensor in self.tensors.values()]
        self._start = min(starts, default=0)  # address of the first byte behind the header
        self._end = max(ends, default=0)
        self._header = header
        # One mapping in the order of the file: then an address is a place in the file.
        self._is_one = self._end - self._start == path.stat().st_size - header

    @contextmanager
    def opened(self) -> Iterator[Callable[[int, memoryview], bool]]:
        """A function that fills a buffer with the bytes from an address on, or returns False: not in this file."""
        with self._path.open("rb", buffering=0) as file:

            def read(address: int, into: memoryview) -> bool:
                if not (self._is_one and self._start <= address and address + len(into) <= self._end):
                    return False
                place, done = self._header + address - self._start, 0
                while done < len(into):
                    arrived = os.preadv(file.fileno(), [into[done:]], place + done)
                    if not arrived:
                        raise OSError(f"{self._path} became shorter while it was read")
                    done += arrived
                return True

            yield read


class _View(torch.Tensor):
    """A mapped tensor while diffusers converts it: cut and turned, never copied; `place` copies what it must."""

    def clone(self) -> torch.Tensor:
        return self

    def contiguous(self) -> torch.Tensor:
        return self


@dataclass(frozen=True)
class MappedModel:
    """A model whose parameters are still views of its files: no memory of their own."""

    model: torch.nn.Module
    files: tuple[MappedFile, ...]

    def placed(self, device: str | torch.device, dtype: torch.dtype, transfer: Transfer = TRANSFER) -> torch.nn.Module:
        """The model with its parameters on `device` in `dtype`. Raises: torch.OutOfMemoryError."""
        return place(self.model, device, dtype, transfer, self.files)


def map_folder(cls: type, folder: Path, variant: str | None = None) -> MappedModel:
    """A diffusers or transformers model from its folder (config.json and safetensors, whole or in shards).

    Args:
        cls: class of the model.
        variant: "fp16" = the files of that name; None = the plain ones.

    Raises: what the libraries raise on a config or file that they cannot read; RuntimeError naming tensors that are
        missing, unexpected or of another shape.
    """
    model = empty_model(cls, folder)
    files = tuple(MappedFile(path) for path in weight_paths(cls, folder, variant))
    give_tensors(model, {name: tensor for file in files for name, tensor in file.tensors.items()})
    return MappedModel(model, files)


def map_single_file(cls: type, path: Path, config: Path) -> MappedModel:
    """One of the models of an SDXL `.safetensors` file in Stability's layout.

    Args:
        cls: class of the model, one of `CONVERSIONS`.
        path: the file. Of what it holds besides this model nothing is read.
        config: folder with the model's `config.json`.

    Raises: as `map_folder`.
    """
    model, file = empty_model(cls, config), MappedFile(path)
    checkpoint = {name: tensor.as_subclass(_View) for name, tensor in file.tensors.items()}
    tensors = CONVERSIONS[cls](model, checkpoint)
    give_tensors(model, {key: tensor.as_subclass(torch.Tensor) for key, tensor in tensors.items()})
    return MappedModel(model, (file,))


def weight_paths(cls: type, folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files that hold a model of `cls` in `folder`: those that its index names, or the only one."""
    stem = "diffusion_pytorch_model" if issubclass(cls, ConfigMixin) else "model"
    names = weight_files(
        path.name
        for path in folder.iterdir()
        if path.name.startswith(stem) and (".fp16" in path.name) == (variant == "fp16")
    )
    index = next((name for name in names if name.endswith(".json")), None)
    if index:
        shards = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
        names = sorted({PurePosixPath(shard).name for shard in shards})
    return [folder / name for name in names]


def empty_model(cls: type, folder: Path) -> torch.nn.Module:
    """`cls` as `folder/config.json` describes it, its parameters without memory (on "meta").

    Buffers have their values: CLIP's position_ids stand in no file.
    """
    with init_empty_weights(include_buffers=False):
        if issubclass(cls, ConfigMixin):
            model = cls.from_config(cls.load_config(folder))
        else:
            model = cls(cls.config_class.from_pretrained(folder))
    return model.eval()


def give_tensors(model: torch.nn.Module, tensors: Tensors) -> None:
    """Make `tensors` the parameters of `model` as they are, no copy.

    Raises: RuntimeError naming tensors that are missing, unexpected or of another shape.
    """
    expected = model.state_dict().keys()
    named = {}
    for name, tensor in tensors.items():
        known = next((spelling for spelling in _spellings(name) if spelling in expected), None)
        if known or not name.endswith(NEEDLESS):
            named[known or name] = tensor
    model.load_state_dict(named, assign=True)


def _spellings(name: str) -> Iterator[str]:
    """What a tensor called `name` in a file may be called in the model."""
    yield name
    # transformers 5.6 dropped this prefix from CLIPTextModel; files have it or not, as their writer did.
    yield name.removeprefix("text_model.")
    yield f"text_model.{name}"
    yield re.sub(r"\.(query|key|value|proj_attn)\.", lambda found: f".{OLD_ATTENTION_NAMES[found[1]]}.", name)


def place(
    model: torch.nn.Module,
    device: str | torch.device,
    dtype: torch.dtype,
    transfer: Transfer = TRANSFER,
    files: Iterable[MappedFile] = (),
) -> torch.nn.Module:
    """Copy the parameters of `model` to `device` in `dtype`, and its buffers to `device`; returns `model`.

    Parameters that are there already in that precision are not copied. `files`: what they are views of.

    Raises: torch.OutOfMemoryError.
    """
    device = torch.device(device)
    pairs = []
    for parameter in model.parameters():
        source = parameter.data
        if source.device.type == device.type and source.dtype == dtype and source.is_contiguous():
            continue
        parameter.data = torch.empty(source.shape, dtype=dtype, device=device)
        pairs.append((source, parameter.data))
    pairs.sort(key=lambda pair: pair[0].data_ptr())  # in the order of the file
    if device.type == "cuda":
        copy_to_cuda(pairs, device, transfer, files)
    else:
        for source, target in pairs:
            target.copy_(source)
    return model.to(device)


def copy_to_cuda(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device,
    transfer: Transfer = TRANSFER,
    files: Iterable[MappedFile] = (),
) -> None:
    """Copy each source (on the processor) into its target on `device`, casting there; done on return."""
    pinned = transfer.pinned and transfer.piece > 0
    lanes = SimpleQueue()
    for _ in range(transfer.threads):
        buffer = torch.empty(transfer.piece, dtype=torch.uint8, pin_memory=pinned) if transfer.piece else None
        lanes.put((buffer, torch.cuda.Stream(device)))
    with ExitStack() as opened, ThreadPoolExecutor(transfer.threads) as pool:
        readable = files if transfer.reads and hasattr(os, "preadv") else ()
        readers = [opened.enter_context(file.opened()) for file in readable]

        def copy(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
            buffer, stream = lane = lanes.get()
            try:
                copy_in_pieces(*pair, buffer, stream, readers)
            finally:
                lanes.put(lane)

        for _ in pool.map(copy, pairs):
            pass
    torch.cuda.empty_cache()  # the pieces that were cast, kept for streams that nobody uses again


def copy_in_pieces(
    source: torch.Tensor,
    target: torch.Tensor,
    buffer: torch.Tensor | None,
    stream: "torch.cuda.Stream | None" = None,
    readers: Iterable[Callable[[int, memoryview], bool]] = (),
) -> None:
    """Copy `source` into `target` by way of `buffer`; the device of `target` casts. Done on return.

    Args:
        source: on the processor, any layout.
        target: same shape, contiguous.
        buffer: (bytes,) uint8 on the processor; None = straight from `source`.
        stream: where the copies are queued.
        readers: of the files that `source` may be a view of; see `MappedFile.opened`.
    """
    source, target = source.contiguous().view(-1), target.view(-1)
    length = max(1, buffer.numel() // source.element_size()) if buffer is not None else max(1, source.numel())
    with torch.cuda.stream(stream) if stream else nullcontext():
        for piece, place_of_piece in zip(source.split(length), target.split(length)):
            if buffer is not None:
                staged = buffer[: piece.nbytes]
                if not any(read(piece.data_ptr(), memoryview(staged.numpy())) for read in readers):
                    # numpy copies with this thread alone; PyTorch would start its own threads in each of ours.
                    staged.numpy()[:] = piece.view(torch.uint8).numpy()
                piece = staged.view(piece.dtype)
            # Two steps, since one would cast on the processor first.
            arrived = piece if piece.dtype == target.dtype else piece.to(target.device, non_blocking=True)
            place_of_piece.copy_(arrived, non_blocking=True)
            if stream:
                stream.synchronize()  # the buffer is free again


@contextmanager
def reading_ahead(paths: Iterable[Path]) -> Iterator[None]:
    """Meanwhile a thread reads `paths` one after the other, so that the disk is never idle and the kernel has them.

    What the kernel has already is passed over. Who reads a file for its sake says what is wrong with it.
    """
    over = threading.Event()

    def read() -> None:
        scratch = memoryview(bytearray(READ_AHEAD_STEP))
        for path in paths:
            with suppress(OSError), path.open("rb", buffering=0) as file:
                for start in range(0, path.stat().st_size, READ_AHEAD_STEP):
                    if over.is_set():
                        return
                    if not _is_cached(file, start):
                        os.preadv(file.fileno(), [scratch], start)

    thread = threading.Thread(target=read, daemon=True)
    if hasattr(os, "preadv"):
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join()


def _is_cached(file: BinaryIO, start: int) -> bool:
    """Whether the kernel has the last page of a step, as far as it tells; files are read from front to back."""
    try:
        end = min(start + READ_AHEAD_STEP, os.fstat(file.fileno()).st_size) - 1
        return os.preadv(file.fileno(), [bytearray(1)], end, os.RWF_NOWAIT) == 1
    except (AttributeError, OSError):  # not Linux; a file system that cannot tell; not at once
        return False
