"""Training at toy size: a pipeline over the random bundle, and a source that draws its examples from their numbers.

As a script it trains in two processes: `python tiny_training.py BUNDLE OUTPUT PORT`.
"""

import json
import os
import sys
from pathlib import Path

import torch

from instantid.bundle import open_untrained_bundle
from training.data import Batch, joined
from training.identity_model import training_pipeline
from training.options import TrainingOptions
from training.trainer import accelerator_for, train

SIDE = 64
SIZES = {"heads": 4, "dim": 64, "depth": 1}
CAPTIONS = ("a face", "retrato", "snow", "person")


def tiny_options(**changes) -> TrainingOptions:
    """Short and quick; the learning rates are those of toys."""
    options = {"steps": 4, "batch_size": 2, "warmup": 0, "learning_rate": 1e-2, "identity_net_learning_rate": 1e-2}
    return TrainingOptions(**options | {"validate_every": 0, "ema_decay": 0.5} | changes)


def tiny_pipeline(bundle: Path, start=None, **sizes):
    bundle = open_untrained_bundle(bundle)
    return training_pipeline(bundle, torch.device("cpu"), torch.float32, start, **SIZES | sizes)


def example(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    return Batch(
        key_points=torch.rand(1, 3, SIDE, SIDE, generator=generator),
        embeddings=20 * torch.randn(1, 512, generator=generator),
        captions=[CAPTIONS[number % len(CAPTIONS)]],
        pixels=2 * torch.rand(1, 3, SIDE, SIDE, generator=generator) - 1,
    )


def source(numbers):
    return (joined([example(number) for number in batch]) for batch in numbers)


def losses_in(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()]


def trained(pipeline, output: Path, options: TrainingOptions, source=source, **arguments):
    """Trains; returns the loss of each step in the log."""
    train(accelerator_for(options), pipeline, source, options, output, **arguments)
    return losses_in(output)


def train_as(rank: int, bundle: str, output: str, port: str) -> None:
    """Train as one of two processes on the processor."""
    os.environ |= {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    trained(tiny_pipeline(Path(bundle)), Path(output), tiny_options(steps=3))


if __name__ == "__main__":  # forked: the libraries are imported once
    torch.multiprocessing.start_processes(train_as, tuple(sys.argv[1:]), nprocs=2, start_method="fork")
