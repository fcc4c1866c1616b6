"""The command line: `python -m instantid <command>`; `--help` lists the commands.

Exit codes: 0 done, 1 `check` found something to mend, 2 an error with its sentence, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from instantid import options
from instantid.messages import LANGUAGES, explain, machine_error, say, system_language
from ip_adapter.errors import InstantIDError


def build_parser(language: str | None = None) -> argparse.ArgumentParser:
    """The parser, its help in `language` (None = the machine's)."""
    return options.build_parser(language or system_language())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = build_parser(_language_in(argv)).parse_args(argv)
    try:
        return COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        print(_line_start() + say("cli.interrupted", arguments.language), file=sys.stderr)
        return 130
    except ImportError as error:
        failure = machine_error("cli.cannot_import", reason=error)
    except InstantIDError as error:
        failure = error
    print(f"{_line_start()}❌ {explain(failure, arguments.language)}", file=sys.stderr)
    return 2


# Imports stand in the commands: `check` has to work where torch does not.


def check(arguments: argparse.Namespace) -> int:
    from instantid.compatibility import check_environment

    report = check_environment(arguments.language)
    print(json.dumps(report.data, ensure_ascii=False, indent=2) if arguments.json else report.text())
    return 0 if report.ok else 1


def download(arguments: argparse.Namespace) -> int:
    from instantid.keeping import keep_in
    from instantid.weights import obtain_bundle

    folder = arguments.folder or keep_in(arguments.keep, arguments.language).weights
    bundle = obtain_bundle(base=arguments.base, folder=folder, language=arguments.language)
    print(say("cli.downloaded", arguments.language, folder=bundle.identitynet.parent))
    return 0


def convert(arguments: argparse.Namespace) -> int:
    from instantid.bundle import readable_size
    from ip_adapter.convert import convert_to_safetensors

    with _writing_in(arguments.file.parent):
        target = convert_to_safetensors(arguments.file)
    print(say("cli.converted", arguments.language, file=target, size=readable_size(target)))
    return 0


def migrate(arguments: argparse.Namespace) -> int:
    from instantid.migration import migrate as write_migrated

    report = write_migrated(arguments.notebook, arguments.output, arguments.dry_run)
    print(report.text(arguments.language))
    return 0


def pack(arguments: argparse.Namespace) -> int:
    from instantid.packing import pack as write_packed

    with _writing_in(arguments.output):
        for file in write_packed(arguments.output):
            print(file)
    return 0


def generate(arguments: argparse.Namespace) -> int:
    from instantid.generation import generate_image
    from instantid.images import open_photo
    from instantid.keeping import keep_in
    from instantid.ui_results import save_pictures

    request = options.request_from(arguments).checked()  # refuse at once, not after minutes of loading
    for photo in (request.face, *request.more_faces, *([request.pose] if request.pose else [])):
        open_photo(photo)
    keeping = keep_in(arguments.keep, arguments.language)
    output = arguments.output or keeping.results
    with _writing_in(output):
        output.mkdir(parents=True, exist_ok=True)
    result = generate_image(_models(arguments, keeping.weights), request, _progress_line(arguments.language))
    for note in result.notes:
        print("⚠️ " + say(note.key, arguments.language, **note.facts), file=sys.stderr)
    with _writing_in(output):
        paths = save_pictures(result, output)
    print(*paths, sep="\n")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    from instantid.evaluation.command import evaluate as run

    with _writing_in(arguments.output):
        run(arguments, options.plan_options_from(arguments))
    print(say("evaluate.written", arguments.language, file=arguments.output / "report.md"))
    return 0


def ui(arguments: argparse.Namespace) -> int:
    from instantid.generation import generate_image
    from instantid.keeping import keep_in
    from instantid.ui import create_demo, launch

    keeping = keep_in(arguments.keep, arguments.language)
    output = arguments.output or keeping.results
    with _writing_in(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    models = _models(arguments, keeping.weights)
    demo = create_demo(
        functools.partial(generate_image, models),
        language=arguments.language,
        about=models.about(),
        portraits=models.bundle.examples(),
        prompts=models.bundle.prompts(),
        output_folder=output,
        settings_file=keeping.settings,
    )
    try:
        launch(
            demo,
            share=arguments.share,
            server_name=arguments.host,
            server_port=arguments.port,
            inbrowser=not arguments.no_browser,
        )
    except OSError as error:
        raise machine_error("cli.no_port", host=arguments.host, port=arguments.port or "…") from error
    return 0


COMMANDS = {
    "check": check,
    "download": download,
    "convert": convert,
    "migrate": migrate,
    "pack": pack,
    "generate": generate,
    "evaluate": evaluate,
    "ui": ui,
}


def _models(arguments: argparse.Namespace, weights: Path):
    from instantid.loading import load_models

    return load_models(
        arguments.bundle,
        arguments.base,
        folder=arguments.folder or weights,
        options=options.plan_options_from(arguments),
        faces_on=arguments.faces_on,
        language=arguments.language,
    )


@contextlib.contextmanager
def _writing_in(folder: Path) -> Iterator[None]:
    """A disk that refuses, or is full, is said in one sentence."""
    try:
        yield
    except OSError as error:
        raise machine_error("cli.not_written", folder=folder, reason=error.strerror or error) from error


def _progress_line(language: str):
    """One line on the terminal that is written over; nothing where the output is a file."""

    def report(progress) -> None:
        stage = say(f"cli.stage_{progress.stage}", language)
        line = f"{stage} {progress.step}/{progress.steps}  {progress.seconds:.1f} s"
        print(_line_start() + line, end="\n" if progress.stage == "done" else "", file=sys.stderr, flush=True)

    return report if sys.stderr.isatty() else None


def _line_start() -> str:
    """Back to the start of an emptied line, on a terminal."""
    return "\r\033[K" if sys.stderr.isatty() else ""


def _language_in(argv: Sequence[str]) -> str | None:
    """The language asked for, before parsing: the help itself is written in it."""
    for option, value in zip(argv, [*argv[1:], ""]):
        asked = option.partition("=")[2] if option.startswith("--language=") else value
        if option.startswith("--language") and asked in LANGUAGES:
            return asked
    return None


if __name__ == "__main__":
    sys.exit(main())
