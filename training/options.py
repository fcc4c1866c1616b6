"""How to train: every number of a run but the data. One table, from which the command line is made too."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

from instantid.messages import user_error
from training.draws import DropRates

CHOICES = {
    "schedule": ("constant", "cosine", "clock"),
    "optimizer": ("adamw", "adamw8bit"),
    "mixed_precision": ("no", "fp16", "bf16"),
}
RATES = ("drop_identity", "drop_text", "drop_both", "drop_control", "ema_decay")  # 0 … 1
FROM_ZERO = (
    "warmup",
    "seed",
    "validate_every",
    "minutes",
    "min_snr_gamma",
    "weight_decay",
    "identity_net_learning_rate",
)


def option(default: Any, words: str) -> Any:
    """A field with its help."""
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True)
class TrainingOptions:
    """Numbers of a run. A step is one change of the weights."""

    steps: int = option(100_000, "steps in all, those of earlier runs included")
    batch_size: int = option(1, "examples at once on each GPU")
    accumulation: int = option(1, "batches of each GPU that are gathered into one step")
    learning_rate: float = option(1e-4, "of Resampler and identity attention")
    identity_net_learning_rate: float = option(1e-5, "of IdentityNet; 0 leaves it as it is")
    schedule: str = option(
        "constant",
        "of the learning rates after the warm-up; cosine falls to 0 at the last step, clock at the last minute",
    )
    warmup: int = option(500, "steps in which the learning rates rise from 0")
    optimizer: str = option("adamw", "adamw8bit needs bitsandbytes and takes a quarter of AdamW's memory")
    weight_decay: float = option(0.01, "of AdamW")
    max_grad_norm: float = option(1.0, "gradients longer than this are shortened to it")
    ema_decay: float = option(0.9999, "of the moving average of the weights, which is what comes out in the end")
    min_snr_gamma: float = option(0.0, "bound of the signal-to-noise weights; 5 is usual, 0 = unweighted")
    face_weight: float = option(1.0, "how much more the places inside the face's box count than the others")
    drop_identity: float = option(0.05, "share of examples without identity (zeros through the Resampler)")
    drop_text: float = option(0.05, "share of examples without caption")
    drop_both: float = option(0.05, "share of examples with neither")
    drop_control: float = option(0.05, "share of examples without key points (a black picture)")
    mixed_precision: str = option("no", "precision of base and arithmetic; trained weights stay float32")
    cuda_graphs: bool = option(
        False, "launch a whole step at once: faster for small networks; one GPU, bf16, no accumulation"
    )
    gradient_checkpointing: bool = option(False, "compute activations twice: less memory, more time")
    checkpoint_every: int = option(1000, "steps")
    keep_checkpoints: int = option(2, "older ones are removed")
    log_every: int = option(1, "steps that share a row of the log; more than 1 lets a GPU run ahead")
    validate_every: int = option(1000, "steps; 0 = never")
    minutes: float = option(
        0.0, "stop with a checkpoint after so many minutes; 0 = no limit; by the clock, those of earlier runs included"
    )
    seed: int = option(0, "of all that is random")

    def checked(self) -> TrainingOptions:
        """The same options. Raises: UserError naming one that cannot be."""
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise user_error(
                    "request.unknown_choice", field=name, value=getattr(self, name), allowed=", ".join(allowed)
                )
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, Real) or isinstance(value, bool):
                continue
            least = 0 if one.name in (*RATES, *FROM_ZERO) else 1 if isinstance(one.default, int) else 1e-12
            most = 1.0 if one.name in RATES else float("inf")
            if not least <= value <= most:
                raise user_error("request.out_of_range", field=one.name, value=value, least=least, most=most)
        if self.schedule == "clock" and not self.minutes:
            raise user_error("training.clock_without_minutes")
        if self.cuda_graphs and (self.accumulation > 1 or self.mixed_precision != "bf16"):
            raise user_error("training.graphs_alone")
        dropped = self.drop_identity + self.drop_text + self.drop_both
        if dropped > 1:
            raise user_error("training.drops_too_often", total=round(dropped, 3))
        return self

    @property
    def drop_rates(self) -> DropRates:
        return DropRates(self.drop_identity, self.drop_text, self.drop_both, self.drop_control)


def add_options(parser: argparse.ArgumentParser) -> None:
    """One option per field, with its default."""
    for one in fields(TrainingOptions):
        flag, words = "--" + one.name.replace("_", "-"), one.metadata["help"]
        if isinstance(one.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=one.default, help=words)
        else:
            kind = type(one.default)
            parser.add_argument(
                flag, type=kind, default=one.default, choices=CHOICES.get(one.name), help=f"{words} [{one.default}]"
            )


def options_from(arguments: argparse.Namespace) -> TrainingOptions:
    """The options of a parsed command line, checked."""
    names: Sequence[str] = [one.name for one in fields(TrainingOptions)]
    return TrainingOptions(**{name: getattr(arguments, name) for name in names}).checked()
