"""Verbs for the notebook's cells, which define nothing themselves."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instantid.cures import reading_place
from instantid.messages import explain, say
from ip_adapter.errors import InstantIDError

if TYPE_CHECKING:  # the first cell imports this module before anything is installed
    from instantid.request import GenerationResult, OnProgress, Progress


def speak_plainly(language: str) -> None:
    """From now on an error of the project stops its cell with one sentence and no traceback; bugs keep theirs."""

    def sentence(error: InstantIDError) -> list[str]:
        _let_go_of_frames(error)
        return [f"❌ {explain(error, language)}"]

    # IPython asks an exception for its lines. IPython's `set_custom_exc` has room for one handler, and Colab sets it.
    InstantIDError._render_traceback_ = sentence
    warnings.filterwarnings("ignore", "IProgress not found")  # tqdm, where Jupyter has no widgets; we show no bars
    warnings.filterwarnings("ignore", "coroutine 'App.create_app")  # gradio 6.24, when the page of before is closed


def tell_source(origin: str, folder: Path, language: str) -> None:
    """Says where the first cell found the project's code: `origin` is the form field that led there, or "zip"."""
    print(say("notebook.code_from", language, origin=origin, folder=folder))


def pick_photo(path: str, language: str, portraits: Sequence[Path] = ()) -> str | Path:
    """The photo that a cell works on: `path`; without one, an upload in Colab; without that, an example.

    Args:
        portraits: that the weights bring; the first is the example. None = insightface's.
    """
    if path.strip():
        return path.strip()
    if reading_place() == "colab":
        from google.colab import files

        print(say("notebook.upload", language))
        uploaded = files.upload()
        if uploaded:
            return next(iter(uploaded))
    if portraits:
        print(say("notebook.example_portrait", language, file=portraits[0]))
        return portraits[0]
    import insightface

    print(say("notebook.example_photo", language))
    return Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"


def progress_line(language: str) -> OnProgress:
    """For `generate_image`: tells stage, step, seconds and memory on one line below the cell, always written anew."""
    from instantid.hardware import memory_in_use
    from instantid.live_line import cell_line
    from instantid.monitor import memory_line

    show = cell_line()

    def report(progress: Progress) -> None:
        stage = say(f"cli.stage_{progress.stage}", language)
        memory = memory_line(memory_in_use(), language)
        show(f"{stage} {progress.step}/{progress.steps} · {progress.seconds:.1f} s · {memory}")

    return report


def show_result(result: GenerationResult, folder: Path, language: str) -> None:
    """Keeps the pictures in `folder` as PNG with their settings inside, and shows each below the name of its file."""
    from IPython.display import display

    from instantid.ui_results import save_pictures

    for note in result.notes:
        print("⚠️ " + say(note.key, language, **note.facts))
    for path, picture in zip(save_pictures(result, folder), result.images):
        print(path)
        display(picture)


def _let_go_of_frames(error: BaseException | None) -> None:
    """IPython remembers the last error; its frames would keep half-loaded models in memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
