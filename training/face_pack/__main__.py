"""Train the face pack of the small bundle from nothing: detector, recogniser, second recogniser, trait classifier.

python -m training.face_pack --output RUN [--minutes 6] [--stage NAME] [--device cuda]

A run that was stopped goes on with the same command. Where onnx is installed the files of the bundle are written at
the end; else do it elsewhere with `python -m training.face_pack.export --output RUN`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import torch

from instantid.messages import explain, say, system_language
from ip_adapter.errors import InstantIDError
from training.face_pack.stages import STAGES, run_stage, weights_file


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.face_pack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--minutes", type=float, default=6.0, help="for all stages together; 0 = no limit [6]")
    parser.add_argument("--stage", choices=STAGES, help="only this one [all]")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        for name in [options.stage] if options.stage else STAGES:
            run_stage(name, options.output, options.minutes, torch.device(options.device))
        if all(weights_file(options.output, name).is_file() for name in STAGES):
            export(options.output)
    except InstantIDError as error:
        print(f"❌ {explain(error, system_language())}", file=sys.stderr)
        return 2
    return 0


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
