"""The four stages, each with its share of the time, and what comes out of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from instantid.messages import user_error
from training.face_pack.checks import found, named, top_one
from training.face_pack.course import Course, Task, train
from training.face_pack.detector import Detector
from training.face_pack.recognisers import Recogniser, Scorer
from training.face_pack.train_detector import DetectorOptions, DetectorTask
from training.face_pack.train_recogniser import RECOGNISER, SCORER, RecogniserTask
from training.face_pack.train_traits import TraitOptions, TraitTask
from training.face_pack.traits import TraitClassifier
from training.face_pack.weights import save_weights


@dataclass(frozen=True)
class Stage:
    """One network."""

    network: Callable[[], nn.Module]  # untrained
    task: Callable[[torch.device], Task]
    course: Course
    share: float  # of the minutes of the whole face pack
    check: Callable[[nn.Module, torch.device], object]  # a figure with people it does not know


STAGES: dict[str, Stage] = {
    "detector": Stage(
        Detector,
        lambda device: DetectorTask(DetectorOptions(), device),
        Course(steps=6000, learning_rate=2e-3),
        0.36,
        found,
    ),
    "recogniser": Stage(
        Recogniser,
        lambda device: RecogniserTask(RECOGNISER, device),
        Course(steps=8000, learning_rate=1.5e-3, warm_up=300),
        0.28,
        top_one,
    ),
    "scorer": Stage(
        Scorer,
        lambda device: RecogniserTask(SCORER, device),
        Course(steps=8000, learning_rate=1.5e-3, warm_up=300),
        0.26,
        top_one,
    ),
    "traits": Stage(
        TraitClassifier,
        lambda device: TraitTask(TraitOptions(), device),
        Course(steps=5000, learning_rate=2e-3),
        0.10,
        named,
    ),
}


def weights_file(output: Path, stage: str) -> Path:
    """Where a stage leaves its network."""
    return output / "face_pack" / f"{stage}.safetensors"


def run_stage(
    name: str,
    output: Path,
    minutes: float,
    device: torch.device,
    write: Callable[[str], None] = print,
    stages: dict[str, Stage] = STAGES,
) -> Path:
    """Train one network and keep its weights; a stage that was stopped goes on, one that is finished is left alone.

    Args: minutes: of the whole face pack, of which the stage takes its share; 0: until its steps are made.
    Returns: the weights' file.
    Raises: UserError for an unknown stage or an unusable checkpoint; MachineError if the numbers or the disk fail.
    """
    if name not in stages:
        raise user_error("request.unknown_choice", field="stage", value=name, allowed=", ".join(stages))
    stage, file = stages[name], weights_file(output, name)
    if file.is_file():
        return file
    task = stage.task(device)
    steps = train(task, replace(stage.course, minutes=minutes * stage.share), file.with_suffix(""), device, write)
    write(f"{name}: {steps} steps, held-out {stage.check(task.product, device)}")
    save_weights(task.product, file)
    return file
