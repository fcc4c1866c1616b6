"""Train the face pack of the small bundle from nothing: detector, recogniser, second recogniser, trait classifier.

python -m training.face_pack --output RUN [--minutes 8] [--stage NAME] [--device cuda] [--toy]

On a GPU the four are trained side by side: none of them fills it. A run that was stopped goes on with the same command.
Where onnx is installed the files of the bundle are written at the end; else, and after single stages, do it with
`python -m training.face_pack.export --output RUN`.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from instantid.messages import explain, machine_error, say, system_language
from ip_adapter.errors import InstantIDError
from training.face_pack.stages import MINUTES, STAGES, TOY, Stage, run_stage


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.face_pack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"of each network; 0 = no limit [{MINUTES:g}]")
    parser.add_argument("--stage", choices=STAGES, help="only this one [all]")
    parser.add_argument("--toy", action="store_true", help="a few steps on a few pictures: to try the machinery")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    stages, device = TOY if options.toy else STAGES, torch.device(options.device)
    minutes = 0 if options.toy else options.minutes
    try:
        if options.stage:
            run_stage(options.stage, options.output, minutes, device, stages=stages)
        else:
            train_face_pack(options.output, minutes, device, stages)
    except InstantIDError as error:
        print(f"❌ {explain(error, system_language())}", file=sys.stderr)
        return 2
    return 0


def train_face_pack(output: Path, minutes: float, device: torch.device, stages: Mapping[str, Stage]) -> None:
    """Train these stages, or go on with them; then write their files of the bundle.

    Args: minutes: of each stage; 0: until its steps are made.
    Raises: InstantIDError in one sentence.
    """
    if device.type == "cuda" and stages.items() <= STAGES.items():
        train_side_by_side(output, minutes, device, list(stages))
    else:
        for name in stages:
            run_stage(name, output, minutes, device, stages=stages)
    export(output, list(stages))


def train_side_by_side(output: Path, minutes: float, device: torch.device, names: Sequence[str]) -> None:
    """Each of `STAGES` in a process of its own: launching its kernels keeps Python busier than the GPU.

    Raises: MachineError naming those that did not come to their end.
    """
    command = [sys.executable, "-m", "training.face_pack", "--output", output, "--minutes", minutes, "--device", device]
    running = {name: subprocess.Popen([*map(str, command), "--stage", name]) for name in names}
    failed = [name for name, process in running.items() if process.wait() != 0]
    if failed:
        raise machine_error("face_pack.stage_failed", names=", ".join(failed), folder=output)


def export(output: Path, names: Sequence[str]) -> None:
    """Write the bundle's files, or say how to do it elsewhere."""
    if importlib.util.find_spec("onnx") is None:
        print(say("face_pack.no_onnx", system_language(), folder=output))
        return
    from training.face_pack.export import export_face_pack

    for file in export_face_pack(output, names=names):
        print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
