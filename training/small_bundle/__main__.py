"""Train the small bundle from nothing: face pack, autoencoder, base model, identity, judges; then write it.

python -m training.small_bundle --output RUN [--stage NAME] [--minutes N] [--figures FILE] [--toy]

A run that was stopped goes on with the same command, and a stage that has used its minutes is over. RUN gets a folder
for each stage, with its log and sheets of pictures, and RUN/bundle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from instantid.bundle import readable_size
from instantid.loading import quiet_libraries
from instantid.messages import explain, say, system_language
from ip_adapter.errors import InstantIDError
from training import checkpoints
from training.face_pack.__main__ import train_face_pack
from training.face_pack.embedder import Embedder
from training.face_pack.stages import JUDGES, PACK, weights_file
from training.small_bundle.base import train_base
from training.small_bundle.card import check_sizes, files_of, write_card, write_logs
from training.small_bundle.identity import Embeds, train_identity
from training.small_bundle.recipe import FULL, TOY, Recipe
from training.small_bundle.stage import Budget
from training.small_bundle.vae import train_vae

STAGES = ("faces", "vae", "base", "identity", "judges", "write")
OF_FACES = {"faces": PACK, "judges": JUDGES}  # stage -> the networks that are trained side by side in it
# What a stage writes last.
RESULTS = {
    "vae": "vae/model/diffusion_pytorch_model.safetensors",
    "base": "bundle/base/model_index.json",
    "identity": "bundle/ip-adapter.safetensors",
}


@dataclass(frozen=True)
class Run:
    """A training from nothing in one folder."""

    output: Path
    recipe: Recipe
    device: torch.device

    @property
    def bundle(self) -> Path:
        return self.output / "bundle"

    def stage(self, name: str, minutes: float | None = None, figures: str = "") -> None:
        """Train one of `STAGES`, or go on with it. A result without a checkpoint came from elsewhere, and stays.

        Args:
            minutes: for this stage instead of the recipe's, those of earlier runs included.
            figures: what was measured, for the card.

        Raises: InstantIDError in one sentence.
        """
        recipe = self.recipe
        if self.is_brought(name):
            print(say("training.stage_brought", system_language(), file=self.output / RESULTS[name]))
        elif name in OF_FACES:
            networks = {network: recipe.face_stages[network] for network in OF_FACES[name]}
            train_face_pack(
                self.output, recipe.face_minutes[name] if minutes is None else minutes, self.device, networks
            )
        elif name == "vae":
            train_vae(self.output / "vae", recipe.sizes, with_minutes(recipe.vae, minutes), self.device)
        elif name == "base":
            output, vae = self.output / "base", self.output / "vae" / "model"
            train_base(output, vae, self.bundle, recipe.sizes, with_minutes(recipe.base, minutes), self.device)
        elif name == "identity":
            recipe = replace(recipe, identity=with_minutes(recipe.identity, minutes))
            train_identity(self.output / "identity", self.bundle, recipe, self.embedder)
        else:
            self.write(figures)

    def is_brought(self, name: str) -> bool:
        """Whether the result of a stage is there, and nothing to go on from."""
        checkpoint = checkpoints.latest(self.output / name / "checkpoints")
        return name in RESULTS and checkpoint is None and (self.output / RESULTS[name]).is_file()

    def embedder(self, device: torch.device) -> Embeds:
        """The recogniser of the face pack."""
        return Embedder.load(weights_file(self.output, "recogniser"), device)

    def write(self, figures: str = "") -> None:
        """Logs, card, examples and description; the weights are there already.

        Raises: UserError if the bundle is too large.
        """
        sizes = self.recipe.sizes
        write_logs(self.output, self.bundle)
        write_card(self.bundle, sizes.latent_channels, sizes.resampler_heads, figures)
        for file in files_of(self.bundle):
            if file.bytes > 10**5:
                print(f"{readable_size(file.bytes):>12}  {file.name}")
        check_sizes(self.bundle)


def with_minutes(budget: Budget, minutes: float | None) -> Budget:
    """The budget with other minutes, if any are given."""
    return budget if minutes is None else replace(budget, minutes=minutes)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.small_bundle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--stage", choices=STAGES, help="only this one [all, one after the other]")
    parser.add_argument("--minutes", type=float, help="of the stage, earlier runs included, instead of its own")
    parser.add_argument("--figures", type=Path, metavar="FILE", help="Markdown for the card: what was measured")
    parser.add_argument("--toy", action="store_true", help="tiny models, a few steps: to try the machinery")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    quiet_libraries()
    torch.backends.cudnn.benchmark = True  # shapes stay the same for thousands of steps
    torch.set_float32_matmul_precision("high")  # TF32 where bfloat16 is not used
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(arguments.output, TOY if arguments.toy else FULL, device)
    figures = arguments.figures.read_text(encoding="utf-8") if arguments.figures else ""
    try:
        for name in [arguments.stage] if arguments.stage else STAGES:
            print(f"— {name}", flush=True)
            run.stage(name, arguments.minutes if arguments.stage else None, figures)
    except InstantIDError as error:
        print(f"❌ {explain(error, system_language())}", file=sys.stderr)
        return 2
    size = readable_size(sum(file.bytes for file in files_of(run.bundle)))
    print(say("training.small_bundle", system_language(), folder=run.bundle, size=size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
