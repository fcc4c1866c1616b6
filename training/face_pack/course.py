"""The course of one network's training: steps, learning rate, checkpoints, log.

What is random in a step is drawn from its number, so weights and optimizer are all that a checkpoint needs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from instantid.messages import machine_error, user_error
from training import checkpoints
from training.journal import append_row, keep_rows


class Task(Protocol):
    """Something to learn."""

    network: nn.Module  # all that is trained
    product: nn.Module  # what is kept of it

    def loss(self, step: int, progress: float) -> Tensor:
        """The error at this step, `progress` 0 … 1 through the course."""


@dataclass(frozen=True)
class Course:
    """How long and how fast. It ends with the steps or the minutes, whichever come first, and the learning rate falls
    to 0 by then."""

    steps: int
    learning_rate: float
    minutes: float = 0.0  # of training, those of earlier runs included; 0: no limit
    warm_up: int = 100  # steps
    weight_decay: float = 0.05
    max_grad_norm: float = 5.0
    log_every: int = 25  # steps
    checkpoint_every: float = 45.0  # seconds

    def progress(self, step: int, seconds: float) -> float:
        """0 at the beginning, 1 when it is over."""
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(max(step / self.steps, by_time), 1.0)

    def rate(self, step: int, progress: float) -> float:
        return self.learning_rate * min((step + 1) / self.warm_up, 1.0) * 0.5 * (1 + math.cos(math.pi * progress))


def train(task: Task, course: Course, folder: Path, device: torch.device, write: Callable[[str], None] = print) -> int:
    """Train until the course is over; goes on from the checkpoint in `folder`, if there is one.

    Args: folder: gets checkpoints and `log.jsonl`, a row for every `log_every` steps.
    Returns: the steps that were made in all.
    Raises: UserError for a checkpoint that cannot be used; MachineError where the loss is no finite number.
    """
    on_card = device.type == "cuda"
    torch.set_float32_matmul_precision("high")
    network = task.network.to(device, memory_format=torch.channels_last).train()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, weight_decay=course.weight_decay, fused=on_card)
    step, earlier = _restored(network, optimizer, folder)
    log = folder / "log.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    keep_rows(log, lambda row: row["step"] <= step)
    start = saved = time.monotonic()
    total, counted = torch.zeros((), device=device), 0
    while (progress := course.progress(step, spent := earlier + time.monotonic() - start)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = course.rate(step, progress)
        with torch.autocast(device.type, torch.bfloat16, enabled=on_card):
            loss = task.loss(step, progress)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, course.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step, total, counted = step + 1, total + loss.detach(), counted + 1
        if step % course.log_every == 0:  # reading a number waits for the device: seldom
            mean = float(total) / counted
            if not math.isfinite(mean):
                raise machine_error("training.not_finite", step=step, precision="bf16" if on_card else "no")
            append_row(log, {"step": step, "loss": round(mean, 5), "seconds": round(spent, 1)})
            write(f"{folder.name} {step}: {mean:.4f} ({spent:.0f} s)")
            total.zero_()
            counted = 0
        if time.monotonic() - saved >= course.checkpoint_every:
            _save(network, optimizer, folder, step, earlier + time.monotonic() - start)
            saved = time.monotonic()
    if step > 0:
        _save(network, optimizer, folder, step, earlier + time.monotonic() - start)
    return step


def _save(network: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, step: int, seconds: float) -> None:
    state = {"step": step, "seconds": seconds, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoints.save(folder / "checkpoints", step, state, keep=1)


def _restored(network: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> tuple[int, float]:
    """Steps and seconds so far."""
    newest = checkpoints.latest(folder / "checkpoints")
    if newest is None:
        return 0, 0.0
    state = checkpoints.load(newest)
    try:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise user_error("face_pack.other_network", file=newest, reason=str(error).split("\n")[0]) from error
    return state["step"], state["seconds"]
