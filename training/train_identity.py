"""Train IdentityNet and the adapter for an SDXL base, from pictures that `training.prepare_faces` prepared.

`accelerate launch -m training.train_identity --bundle FOLDER --data FOLDER --output FOLDER`

The same command with `--resume` goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import Accelerator
from diffusers import AutoencoderKL
from tqdm import tqdm

from instantid.bundle import open_bundle, open_untrained_bundle
from instantid.faces import FaceAnalyser
from instantid.loading import quiet_libraries
from instantid.messages import explain, say, system_language, user_error
from instantid.request import SIZE_MULTIPLE
from ip_adapter.errors import InstantIDError
from ip_adapter.resampler import DEFAULT_HEADS
from training.data import FaceDataset, Size, file_source, held_out
from training.face_index import FaceRecord, read_index
from training.identity_model import training_pipeline, write_bundle
from training.latents import LatentCache
from training.options import add_options, options_from
from training.trainer import PRECISIONS, accelerator_for, train
from training.validation import Validation, cases_of


def build_parser() -> argparse.ArgumentParser:
    """The parser; the options of the run itself are those of `TrainingOptions`."""
    parser = argparse.ArgumentParser(prog="python -m training.train_identity", description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True, help="folder with base/ and antelopev2/")
    parser.add_argument("--base", type=Path, help="base model elsewhere: a diffusers folder or a .safetensors file")
    parser.add_argument("--data", type=Path, required=True, help="folder that training.prepare_faces wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder of checkpoints, log and result")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output")
    parser.add_argument("--size", type=_size, default=(1024, 1024), metavar="WxH", help="of the pictures [1024x1024]")
    parser.add_argument("--workers", type=int, default=2, help="processes that read pictures, for each GPU [2]")
    parser.add_argument("--cache-latents", type=Path, metavar="FOLDER", help="keep pictures as latents in this folder")
    new = parser.add_argument_group("what is trained")
    new.add_argument("--start", type=Path, metavar="BUNDLE", help="train the identity of this bundle further")
    new.add_argument("--heads", type=int, default=DEFAULT_HEADS, help=f"of a new Resampler [{DEFAULT_HEADS}]")
    new.add_argument("--dim", type=int, default=2048, help="width of a new Resampler [2048]")
    new.add_argument("--depth", type=int, default=4, help="blocks of a new Resampler [4]")
    watch = parser.add_argument_group("validation")
    watch.add_argument("--validation-people", type=int, default=4, help="people kept out of training [4]")
    watch.add_argument("--validation-prompt", action="append", default=[], help="may be repeated [their captions]")
    watch.add_argument("--validation-steps", type=int, default=30, help="denoising steps of each picture [30]")
    add_options(parser.add_argument_group("the run"))
    return parser


def run(arguments: argparse.Namespace, write: Callable[[str], None] = print) -> None:
    """Train as the command line says, and write the bundle once all steps are done.

    Raises: InstantIDError in one sentence.
    """
    quiet_libraries()
    options = options_from(arguments)
    bundle = open_untrained_bundle(arguments.bundle, arguments.base)
    start = open_bundle(arguments.start, bundle.base) if arguments.start else None
    people = arguments.validation_people if options.validate_every else 0
    records, watched = held_out(read_index(arguments.data), people, options.seed)
    if not records:
        raise user_error("training.nobody_left", count=people, folder=arguments.data)

    accelerator = accelerator_for(options)
    pipeline = training_pipeline(
        bundle,
        accelerator.device,
        PRECISIONS[options.mixed_precision],
        start,
        heads=arguments.heads,
        dim=arguments.dim,
        depth=arguments.depth,
        seed=options.seed,
    )
    latents = None
    if arguments.cache_latents:
        latents = _filled_cache(
            accelerator, arguments.cache_latents, arguments.data, arguments.size, records, pipeline.vae
        )
    dataset = FaceDataset(arguments.data, records, arguments.size, options.seed, latents)
    validation = None
    if watched:
        validation = Validation(
            accelerator,
            pipeline,
            FaceAnalyser(bundle.face_pack),
            list(cases_of(watched, arguments.size, arguments.validation_prompt)),
            arguments.size,
            arguments.output,
            arguments.validation_steps,
        )
    progress = train(
        accelerator,
        pipeline,
        file_source(dataset, arguments.workers),
        options,
        arguments.output,
        validate=validation,
        resume=arguments.resume,
        write=write,
    )
    if accelerator.is_main_process:
        language = system_language()
        if progress.step < options.steps:
            write(say("training.time_is_up", language, folder=arguments.output, step=progress.step))
        else:
            finished = write_bundle(pipeline, arguments.output / "bundle", bundle, progress.step)
            write(say("training.finished", language, folder=finished, base=bundle.base))
    accelerator.wait_for_everyone()


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        run(arguments)
    except InstantIDError as error:
        print(f"❌ {explain(error, system_language())}", file=sys.stderr)
        return 2
    return 0


def _filled_cache(
    accelerator: Accelerator, folder: Path, data: Path, canvas: Size, records: Sequence[FaceRecord], vae: AutoencoderKL
) -> LatentCache:
    """The cache with every picture in it; each process encodes its share."""
    cache = LatentCache(folder, data, canvas)
    share = records[accelerator.process_index :: accelerator.num_processes]
    cache.fill(tqdm(share, disable=not accelerator.is_main_process), vae)
    accelerator.wait_for_everyone()
    return cache


def _size(text: str) -> Size:
    """ "832x1216" -> (832, 1216)."""
    width, height = map(int, text.lower().split("x"))
    if width % SIZE_MULTIPLE or height % SIZE_MULTIPLE or min(width, height) < SIZE_MULTIPLE:
        raise argparse.ArgumentTypeError(f"{text}: sides must be multiples of {SIZE_MULTIPLE}")
    return width, height


if __name__ == "__main__":
    sys.exit(main())
