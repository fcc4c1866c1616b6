"""The options of the command line: one parser, made from the same tables as the page.

Nothing heavy is imported here, so `--help` and `check` answer at once, and on a machine where torch is missing.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from instantid.few_steps import FEW_STEPS, NO_FEW_STEPS, USUAL
from instantid.memory_plan import OFFLOADS, PRECISIONS, SPEEDS, STORAGES, VAE_PRECISIONS, PlanOptions
from instantid.messages import LANGUAGES, say
from instantid.request import BOUNDS, SCHEDULERS, WHOLE_NUMBERS, GenerationRequest
from instantid.styles import STYLES

CHOICES = {
    "style": tuple(STYLES),
    "scheduler": tuple(SCHEDULERS),
    "few_steps": (NO_FEW_STEPS, *FEW_STEPS),
    "device": ("cuda", "mps", "cpu"),
    "precision": PRECISIONS,
    "offload": OFFLOADS,
    "storage": STORAGES,
    "speed": SPEEDS,
    "vae_precision": VAE_PRECISIONS,
}
PHOTOS = ("face", "pose", "more_faces")
SWITCHES = ("vae_slicing", "vae_tiling", "attention_slicing")


def build_parser(language: str) -> argparse.ArgumentParser:
    """The parser of `python -m instantid`, its help in `language`."""

    def words(key: str) -> str:
        return say(f"cli.{key}", language)

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--language", choices=tuple(LANGUAGES), default=language, help=words("language"))
    parser = argparse.ArgumentParser(prog="python -m instantid", description=words("program"), parents=[shared])
    commands = parser.add_subparsers(dest="command", required=True, metavar=words("commands"))

    def command(name: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words(name), description=words(name), parents=[shared])

    command("check").add_argument("--json", action="store_true", help=words("json"))
    download = command("download")
    download.add_argument("--base", help=words("base"))
    for name in ("keep", "folder"):
        download.add_argument(_flag(name), type=Path, help=words(name))
    command("convert").add_argument("file", type=Path, help=words("convert_file"))
    migrate = command("migrate")
    migrate.add_argument("notebook", type=Path, help=words("migrate_notebook"))
    migrate.add_argument("--output", type=Path, help=words("migrate_output"))
    migrate.add_argument("--dry-run", action="store_true", help=words("dry_run"))
    command("pack").add_argument("--output", type=Path, default=Path("dist"), help=words("pack_output"))
    generate = command("generate")
    _add_request(generate, words)
    _add_models(generate, words)
    generate.add_argument("--output", type=Path, help=words("output"))
    _add_evaluation(command("evaluate"), words)
    ui = command("ui")
    _add_models(ui, words)
    ui.add_argument("--share", action="store_true", help=words("share"))
    ui.add_argument("--host", default="127.0.0.1", help=words("host"))
    ui.add_argument("--port", type=int, help=words("port"))
    ui.add_argument("--no-browser", action="store_true", help=words("no_browser"))
    ui.add_argument("--output", type=Path, help=words("output"))
    return parser


def request_from(arguments: argparse.Namespace) -> GenerationRequest:
    """The request that the options of `generate` describe."""
    return GenerationRequest(**{field.name: getattr(arguments, field.name) for field in fields(GenerationRequest)})


def plan_options_from(arguments: argparse.Namespace) -> PlanOptions:
    """What the person decided about memory."""
    return PlanOptions(**{field.name: getattr(arguments, field.name) for field in fields(PlanOptions)})


def _add_request(parser: argparse.ArgumentParser, words: Any) -> None:
    """One option per field of `GenerationRequest`, with its default and its bounds."""
    for field in fields(GenerationRequest):
        option: dict[str, Any] = {"help": words(field.name)}
        if field.name in ("face", "prompt"):
            option["required"] = True
        else:
            option["default"] = field.default
        if field.name in BOUNDS:
            bounds = BOUNDS[field.name]
            option["type"] = int if field.name in WHOLE_NUMBERS else float
            option["help"] += f" [{bounds.least:g} … {bounds.most:g}; {USUAL.get(field.name, field.default)}]"
        elif field.name in CHOICES:
            option["choices"] = CHOICES[field.name]
        elif field.name in PHOTOS:
            option["type"] = Path
            option |= {"nargs": "+"} if field.name == "more_faces" else {}
        elif field.name == "seed":
            option["type"] = int
        elif field.name == "region_mask":
            option["action"] = "store_true"
        parser.add_argument(_flag(field.name), **option)


def _add_evaluation(parser: argparse.ArgumentParser, words: Any) -> None:
    """Whom, with what and in how many ways; see `instantid.evaluation.plan`."""
    parser.add_argument("--people", help=words("people"))
    parser.add_argument("--prompts", type=Path, help=words("prompts"))
    parser.add_argument("--poses", help=words("poses"))
    parser.add_argument("--vary", nargs="+", action="append", metavar="NAME=V,V…", help=words("vary"))
    parser.add_argument("--count", type=int, default=2, help=f"{words('each')} [2]")
    parser.add_argument("--seed", type=int, default=0, help=f"{words('first_seed')} [0]")
    parser.add_argument("--steps", type=int, help=words("steps"))
    parser.add_argument("--size", type=int, nargs="+", metavar="N", help=words("size"))
    parser.add_argument("--output", type=Path, default=Path("evaluation"), help=words("report"))
    _add_models(parser, words)


def _add_models(parser: argparse.ArgumentParser, words: Any) -> None:
    """Where the models come from and how they use memory."""
    for name in ("keep", "bundle", "folder"):
        parser.add_argument(_flag(name), type=Path, help=words(name))
    parser.add_argument("--base", help=words("base"))
    parser.add_argument("--faces-on", choices=("cpu", "cuda"), default="cpu", help=words("faces_on"))
    for field in fields(PlanOptions):
        option: dict[str, Any] = {"default": None, "help": words(field.name)}
        if field.name in CHOICES:
            option["choices"] = CHOICES[field.name]
        elif field.name in SWITCHES:
            option["action"] = argparse.BooleanOptionalAction
        else:
            option["type"] = float
        parser.add_argument(_flag(field.name), **option)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
