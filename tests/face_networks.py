"""The networks of the face pack and what teaches them, at toy size."""

import torch

from training.face_pack.collages import Layout
from training.face_pack.course import Course
from training.face_pack.detector import Detector
from training.face_pack.pool import PoolSize
from training.face_pack.recognisers import Recogniser, Scorer
from training.face_pack.train_detector import DetectorOptions, DetectorTask
from training.face_pack.train_recogniser import RECOGNISER, SCORER, RecogniserTask, few_people
from training.face_pack.train_traits import TraitOptions, TraitTask
from training.face_pack.traits import TraitClassifier
from training.face_world import people, render, scenes, seeds

CPU = torch.device("cpu")
FEW = PoolSize(64, 8, 0)
NETWORKS = {"detector": Detector, "recogniser": Recogniser, "scorer": Scorer, "traits": TraitClassifier}
INPUTS = {
    "detector": (1, 3, 96, 64),
    "recogniser": (2, 3, 112, 112),
    "scorer": (2, 3, 112, 112),
    "traits": (2, 3, 128, 128),
}
TASKS = {
    "detector": lambda: DetectorTask(DetectorOptions(pools=(FEW,), layouts=(Layout(64, 1, 4),)), CPU),
    "recogniser": lambda: RecogniserTask(few_people(RECOGNISER), CPU),
    "scorer": lambda: RecogniserTask(few_people(SCORER), CPU),
    "traits": lambda: TraitTask(TraitOptions(FEW, batch=4), CPU),
}
SHORT = {
    "detector": Course(16, 3e-3, warm_up=1, log_every=4, weight_decay=0.0),
    "recogniser": Course(6, 3e-4, warm_up=1, log_every=2, weight_decay=0.0),
    "scorer": Course(6, 3e-4, warm_up=1, log_every=2, weight_decay=0.0),
    "traits": Course(6, 3e-3, warm_up=1, log_every=2, weight_decay=0.0),
}


def drawn_people():
    """Six people in pictures of 128 pixels."""
    return render(people(range(6), seeds.FACE_PACK_CHECK), scenes(range(6), seeds.FACE_PACK_CHECK), 128)


def used_networks():
    """The four networks with batch norms that have seen something."""
    torch.manual_seed(0)
    networks = {name: network() for name, network in NETWORKS.items()}
    for name, network in networks.items():
        for _ in range(3):
            network(torch.randn(4, *INPUTS[name][1:]) * 0.7 + 0.2)
        network.eval()
    return networks


def pixels(picture):
    """(3, h, w) in 0 … 1 -> (h, w, 3) whole numbers 0 … 255."""
    return (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
