"""A stage of training: it ends by the clock, survives a kill, and leaves averaged weights.

The learning rate falls to nothing over the minutes that a stage is given, those of earlier runs included, so that a
slower machine takes fewer steps and still comes to rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from instantid.messages import machine_error, user_error
from training import checkpoints
from training.journal import append_row, keep_rows
from training.small_bundle.pool import Supply

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Budget:
    """How long a stage may train, how fast, on what. It ends with its minutes or its steps, whichever come first."""

    batch_size: int
    supply: Supply  # of its pool
    minutes: float = 0.0  # 0 = no limit
    steps: int = 0  # 0 = no limit
    learning_rate: float = 1e-3
    warmup: int = 300  # steps
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    log_every: int = 50  # steps; between them the processor does not wait for the device
    sheets: int = 4  # of pictures, in the course of the stage

    def gone(self, step: int, seconds: float) -> float:
        """The share of the stage that is over, 0 … 1."""
        by_step = step / self.steps if self.steps else 0.0
        by_clock = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(max(by_step, by_clock), 1.0)

    def rate(self, step: int, gone: float) -> float:
        """Learning rate: a rise, then half a cosine."""
        return self.learning_rate * min((step + 1) / self.warmup, 1.0) * 0.5 * (1 + math.cos(math.pi * gone))


class Stage:
    """The training of one model.

    Args:
        model: its parameters are trained; on the device that trains.
        loss: step -> the loss, and whatever else is to be logged, as tensors of one number.
        output: gets `checkpoints/` and `log.jsonl`.
    """

    def __init__(
        self, model: nn.Module, loss: Callable[[int], dict[str, Tensor]], budget: Budget, output: Path
    ) -> None:
        self.model, self.loss, self.budget, self.output = model, loss, budget, output
        self.step, self.seconds = 0, 0.0
        device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=budget.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=budget.weight_decay,
            fused=device.type == "cuda",
        )
        self.ema = EMAModel(model.parameters(), decay=budget.ema_decay, foreach=True)

    @property
    def gone(self) -> float:
        """The share of the stage that is over, 0 … 1."""
        return self.budget.gone(self.step, self.seconds)

    def train(self, look: Callable[[str], None], write: Callable[[str], None]) -> bool:
        """Go on from the newest checkpoint to the end. The model then has its averaged weights.

        Args:
            look: is called with a name now and then, while the averaged weights are in place.
            write: takes a line for each row of the log.

        Returns: whether there was anything left to do.
        Raises: MachineError if the loss is not a finite number.
        """
        folder, log = self.output / "checkpoints", self.output / "log.jsonl"
        self.output.mkdir(parents=True, exist_ok=True)
        self._restore(checkpoints.latest(folder))
        if self.gone == 1:
            self.ema.copy_to(self.model.parameters())
            return False
        keep_rows(log, lambda row: row["step"] <= self.step)
        before, saved, sheets = time.monotonic(), self.seconds, int(self.gone * self.budget.sheets)
        told: list[dict[str, Tensor]] = []
        while self.gone < 1:
            told.append(self._change())
            if self.step % self.budget.log_every and self.step != self.budget.steps:
                continue
            row = self._row(told)
            told.clear()
            now = time.monotonic()
            self.seconds, before = self.seconds + now - before, now
            append_row(log, row | {"seconds": round(self.seconds, 1)})
            write("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
            if int(self.gone * self.budget.sheets) > sheets:
                sheets = int(self.gone * self.budget.sheets)
                with self.averaged():
                    look(f"{self.step:06d}")
            if self.gone == 1 or self.seconds - saved > CHECKPOINT_SECONDS:
                checkpoints.save(folder, self.step, self._state(), keep=1)
                saved = self.seconds
        self.ema.copy_to(self.model.parameters())
        return True

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has its averaged weights and is not in training."""
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        self.model.eval()
        try:
            yield
        finally:
            self.model.train()
            self.ema.restore(self.model.parameters())

    def _change(self) -> dict[str, Tensor]:
        rate = self.budget.rate(self.step, self.gone)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        values = self.loss(self.step)
        values["loss"].backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.model.parameters())
        self.step += 1
        return {name: value.detach() for name, value in values.items()}

    def _row(self, told: list[dict[str, Tensor]]) -> dict[str, Any]:
        row = {name: torch.stack([one[name] for one in told]).mean().item() for name in told[0]}
        if not math.isfinite(row["loss"]):
            raise machine_error("training.not_finite", step=self.step, precision="bf16")
        return {"step": self.step} | row | {"learning_rate": self.optimizer.param_groups[0]["lr"]}

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _restore(self, checkpoint: Path | None) -> None:
        if checkpoint is None:
            return
        state = checkpoints.load(checkpoint)
        try:
            self.model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise user_error("training.other_model", file=checkpoint, detail=str(error).split("\n")[0]) from error
        self.ema.to(next(self.model.parameters()).device)
        self.step, self.seconds = state["step"], state["seconds"]


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where a GPU computes; the arithmetic of a processor stays in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
