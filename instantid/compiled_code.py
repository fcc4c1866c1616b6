"""Compiled code kept beside the downloads, so that a later session does not compile it again."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

CAN_KEEP = hasattr(torch.compiler, "save_cache_artifacts")  # older PyTorch has only a cache of this machine


def code_file(folder: Path, card: str) -> Path:
    """Where code for this card and this PyTorch is kept; the code of others is of no use here."""
    return folder / "compiled" / (re.sub(r"[^A-Za-z0-9.+-]+", "-", f"{card}-torch-{torch.__version__}") + ".bin")


def read_code(file: Path) -> bool:
    """Give PyTorch the code in `file`; whether there was any. What it cannot use it compiles as if there were none.

    The file is PyTorch's own, and as trusted as a program: it is only ever read from the folder it was written to.
    """
    if not (CAN_KEEP and file.is_file()):
        return False
    try:
        is_known = torch.compiler.load_cache_artifacts(file.read_bytes()) is not None  # it logs why not
    except Exception:  # written by another version, or cut off: PyTorch has no name for it
        is_known = False
    if not is_known:
        logger.warning("compiled code in %s cannot be used: it is compiled again", file)
    return is_known


def keep_code(file: Path) -> bool:
    """Keep all that was compiled in this process; whether there was anything, and room for it."""
    artifacts = torch.compiler.save_cache_artifacts() if CAN_KEEP else None
    if artifacts is None:
        return False
    partial = file.with_suffix(".part")  # a session that ends meanwhile leaves what was there
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(artifacts[0])
        partial.replace(file)
    except OSError as error:
        logger.warning("compiled code cannot be kept in %s: %s", file, error)
        return False
    return True
