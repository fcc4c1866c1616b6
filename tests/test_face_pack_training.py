"""Training the small bundle's face models: it can be interrupted, and what fails is named."""

import dataclasses

import pytest
import torch
from face_networks import CPU, SHORT, TASKS

from ip_adapter.errors import MachineError, UserError
from training.face_pack.__main__ import build_parser, train_face_pack
from training.face_pack.course import Course, train
from training.face_pack.stages import JUDGES, STAGES, Stage, run_stage, weights_file
from training.face_pack.traits import TraitClassifier
from training.face_pack.weights import save_weights
from training.journal import read_rows


@pytest.mark.parametrize("name", TASKS)
def test_a_few_steps_lower_the_loss(name, tmp_path):
    train(TASKS[name](), SHORT[name], tmp_path / name, CPU, write=lambda line: None)
    losses = [row["loss"] for row in read_rows(tmp_path / name / "log.jsonl")]
    assert losses[-1] < 0.9 * losses[0]


def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(tmp_path):
    course = Course(steps=4, learning_rate=1e-3, log_every=1, checkpoint_every=0)
    whole, first, rest = (TASKS["traits"]() for _ in range(3))
    train(whole, course, tmp_path / "whole", CPU, write=lambda line: None)
    original = first.loss

    def killed(step, progress):
        if step == 2:
            raise KeyboardInterrupt
        return original(step, progress)

    first.loss = killed
    with pytest.raises(KeyboardInterrupt):
        train(first, course, tmp_path / "parts", CPU, write=lambda line: None)
    assert train(rest, course, tmp_path / "parts", CPU, write=lambda line: None) == 4
    for ours, theirs in zip(whole.network.state_dict().values(), rest.network.state_dict().values()):
        assert torch.equal(ours, theirs)
    logs = [[row["loss"] for row in read_rows(tmp_path / name / "log.jsonl")] for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_the_course_ends_when_its_minutes_are_over():
    course = Course(steps=1000, learning_rate=1.0, minutes=2.0, warm_up=1)
    assert course.progress(10, 60.0) == 0.5
    assert course.progress(900, 60.0) == 0.9
    assert course.progress(10, 180.0) == 1.0
    assert course.rate(10, 1.0) == pytest.approx(0.0)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    task = TASKS["traits"]()
    task.loss = lambda step, progress: sum(weight.sum() for weight in task.network.parameters()) * torch.nan
    with pytest.raises(MachineError, match="not a finite number"):
        train(task, Course(steps=2, learning_rate=1e-3, log_every=1), tmp_path, CPU, write=lambda line: None)


def test_a_finished_stage_is_left_alone(tmp_path):
    def never(device):
        raise AssertionError("trained again")

    file = weights_file(tmp_path, "traits")
    save_weights(TraitClassifier(), file)
    stage = dataclasses.replace(STAGES["traits"], task=never)
    assert run_stage("traits", tmp_path, 1.0, CPU, stages={"traits": stage}) == file


def test_a_stage_leaves_weights_that_can_be_exported(tmp_path):
    lines = []
    stage = Stage(TraitClassifier, lambda device: TASKS["traits"](), Course(2, 1e-3), lambda n, d: "checked")
    file = run_stage("traits", tmp_path, 0.0, CPU, write=lines.append, stages={"traits": stage})
    assert file.is_file()
    assert lines == ["traits: 2 steps, held-out checked"]


def test_an_unknown_stage_is_named(tmp_path):
    with pytest.raises(UserError, match="detector, recogniser, scorer, traits"):
        run_stage("eyes", tmp_path, 1.0, CPU)


def test_on_a_gpu_they_are_trained_side_by_side_and_one_that_fails_is_named(tmp_path, monkeypatch):
    started = []

    class Process:
        def __init__(self, command):
            started.append(command)
            self.wait = lambda: int("scorer" in command)

    monkeypatch.setattr("training.face_pack.__main__.subprocess.Popen", Process)
    with pytest.raises(MachineError, match=r"end: scorer;"):
        train_face_pack(tmp_path, 3.0, torch.device("cuda"), {name: STAGES[name] for name in JUDGES})
    parsed = [build_parser().parse_args(command[3:]) for command in started]
    assert [(one.stage, one.minutes, one.output) for one in parsed] == [(name, 3.0, tmp_path) for name in JUDGES]


def test_checkpoints_of_another_network_are_refused(tmp_path):
    quiet = {"folder": tmp_path, "device": CPU, "write": lambda line: None}
    train(TASKS["traits"](), Course(1, 1e-3), **quiet)
    with pytest.raises(UserError, match="of another network"):
        train(TASKS["detector"](), Course(2, 1e-3), **quiet)


def test_in_its_second_half_the_detector_learns_with_the_statistics_that_it_will_have_in_use():
    task = TASKS["detector"]()
    task.network.train()

    def statistics():
        return [value.clone() for name, value in task.network.state_dict().items() if "running" in name]

    def changes(step, progress):
        before = statistics()
        task.loss(step, progress)
        return any(not torch.equal(*pair) for pair in zip(before, statistics()))

    assert changes(0, 0.49)
    assert not changes(1, 0.5)
    assert not changes(2, 0.9)
