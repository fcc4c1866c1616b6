"""The four stages, and what comes out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from instantid.messages import user_error
from training.face_pack.checks import found, named, top_one
from training.face_pack.collages import Layout
from training.face_pack.course import Course, Task, train
from training.face_pack.detector import Detector
from training.face_pack.pool import PoolSize
from training.face_pack.recognisers import Recogniser, Scorer
from training.face_pack.train_detector import DetectorOptions, DetectorTask
from training.face_pack.train_recogniser import RECOGNISER, SCORER, RecogniserTask, few_people
from training.face_pack.train_traits import TraitOptions, TraitTask
from training.face_pack.traits import TraitClassifier
from training.face_pack.weights import save_weights

MINUTES = 8.0  # of each network; on one NVIDIA H100, all at once
PACK = ("detector", "recogniser")  # what pictures are conditioned with …
JUDGES = ("scorer", "traits")  # … and what only looks at them afterwards


@dataclass(frozen=True)
class Stage:
    """One network."""

    network: Callable[[], nn.Module]  # untrained
    task: Callable[[torch.device], Task]
    course: Course
    check: Callable[[nn.Module, torch.device], object]  # a figure with people it does not know


STAGES: dict[str, Stage] = {
    "detector": Stage(
        Detector,
        lambda device: DetectorTask(DetectorOptions(), device),
        Course(steps=12000, learning_rate=2e-3),
        found,
    ),
    "recogniser": Stage(
        Recogniser,
        lambda device: RecogniserTask(RECOGNISER, device),
        Course(steps=8000, learning_rate=1.5e-3, warm_up=300),
        top_one,
    ),
    "scorer": Stage(
        Scorer,
        lambda device: RecogniserTask(SCORER, device),
        Course(steps=8000, learning_rate=1.5e-3, warm_up=300),
        top_one,
    ),
    "traits": Stage(
        TraitClassifier,
        lambda device: TraitTask(TraitOptions(), device),
        Course(steps=5000, learning_rate=2e-3),
        named,
    ),
}

# The same networks after a few steps on a few pictures: to try the machinery. Only the detector is of some use.
FEW_STEPS = Course(steps=2, learning_rate=1e-3, log_every=1)
TOY: dict[str, Stage] = {
    "detector": replace(
        STAGES["detector"],
        task=lambda device: DetectorTask(DetectorOptions((PoolSize(128, 16, 0),), (Layout(128, 1, 8),)), device),
        course=Course(steps=400, learning_rate=3e-3, warm_up=10, weight_decay=0.0),
        check=partial(found, count=4),
    ),
    "recogniser": replace(
        STAGES["recogniser"],
        task=lambda device: RecogniserTask(few_people(RECOGNISER), device),
        course=FEW_STEPS,
        check=partial(top_one, count=4),
    ),
    "scorer": replace(
        STAGES["scorer"],
        task=lambda device: RecogniserTask(few_people(SCORER), device),
        course=FEW_STEPS,
        check=partial(top_one, count=4),
    ),
    "traits": replace(
        STAGES["traits"],
        task=lambda device: TraitTask(TraitOptions(PoolSize(64, 8, 0), batch=4), device),
        course=FEW_STEPS,
        check=partial(named, count=4),
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
    stages: Mapping[str, Stage] = STAGES,
) -> Path:
    """Train one network and keep its weights; a stage that was stopped goes on, one that is finished is left alone.

    Args: minutes: 0: until its steps are made.
    Returns: the weights' file.
    Raises: UserError for an unknown stage or an unusable checkpoint; MachineError if the numbers or the disk fail.
    """
    if name not in stages:
        raise user_error("request.unknown_choice", field="stage", value=name, allowed=", ".join(stages))
    stage, file = stages[name], weights_file(output, name)
    if file.is_file():
        return file
    task = stage.task(device)
    steps = train(task, replace(stage.course, minutes=minutes), file.with_suffix(""), device, write)
    write(f"{name}: {steps} steps, held-out {stage.check(task.product, device)}")
    save_weights(task.product, file)
    return file
