"""Checkpoints of a training run: whole or not there at all, and no more of them than asked for.

checkpoints/step-00001000.pt     everything to go on from after that step
"""

import os
from pathlib import Path
from typing import Any

import torch

from instantid.messages import machine_error, user_error

PATTERN = "step-*.pt"


def checkpoint_file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


def latest(folder: Path) -> Path | None:
    """The checkpoint of the highest step, if there is one."""
    return max(folder.glob(PATTERN), default=None)


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `state` and remove all but the last `keep` checkpoints, and what a killed run left half written.

    Raises: MachineError if the disk refuses or is full.
    """
    file = checkpoint_file(folder, step)
    partial = file.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())  # the name must not reach the disk before the content
        partial.replace(file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk in its own way
        partial.unlink(missing_ok=True)
        raise machine_error("training.checkpoint_not_written", file=file, reason=str(error).split("\n")[0]) from error
    for old in (*sorted(folder.glob(PATTERN))[:-keep], *folder.glob("*.part")):
        old.unlink()
    return file


def load(file: Path) -> dict[str, Any]:
    """What `save` wrote, mapped from the file.

    Raises: UserError if the file cannot be read.
    """
    try:
        return torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # torch, zip and pickle have their own
        raise user_error("training.checkpoint_unreadable", file=file, reason=type(error).__name__) from error
