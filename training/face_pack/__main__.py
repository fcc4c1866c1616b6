"""Train the face pack of the small bundle from nothing: detector, recogniser, second recogniser, trait classifier.

python -m training.face_pack --output RUN [--minutes 6] [--stage NAME] [--device cuda] [--toy]

A run that was stopped goes on with the same command. Where onnx is installed the files of the bundle are written at
the end; else do it elsewhere with `python -m training.face_pack.export --output RUN`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from instantid.messages import explain, say, system_language
from ip_adapter.errors import InstantIDError
from training.face_pack.stages import STAGES, TOY, Stage, run_stage, weights_file


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.face_pack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--minutes", type=float, default=6.0, help="for all stages together; 0 = no limit [6]")
    parser.add_argument("--stage", choices=STAGES, help="only this one [all]")
    parser.add_argument("--toy", action="store_true", help="a few steps on a few pictures: to try the machinery")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    stages = TOY if options.toy else STAGES
    names = [options.stage] if options.stage else list(stages)
    minutes = 0 if options.toy else options.minutes
    try:
        train_face_pack(options.output, minutes, torch.device(options.device), names, stages)
    except InstantIDError as error:
        print(f"❌ {explain(error, system_language())}", file=sys.stderr)
        return 2
    return 0


def train_face_pack(
    output: Path, minutes: float, device: torch.device, names: Sequence[str], stages: Mapping[str, Stage]
) -> None:
    """Train the stages of these names, or go on; once all are there, write the bundle's files.

    Args: minutes: of all stages together; 0: until their steps are made.
    Raises: InstantIDError in one sentence.
    """
    for name in names:
        run_stage(name, output, minutes, device, stages=stages)
    if all(weights_file(output, name).is_file() for name in stages):
        export(output)


def export(output: Path) -> None:
    """Write the bundle's files, or say how to do it elsewhere."""
    if importlib.util.find_spec("onnx") is None:
        print(say("face_pack.no_onnx", system_language(), folder=output))
        return
    from training.face_pack.export import export_face_pack

    for file in export_face_pack(output):
        print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
