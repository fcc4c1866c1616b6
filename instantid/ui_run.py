"""One run behind the page: what was entered becomes a request, its progress and its end are said to the person."""

from __future__ import annotations

import functools
import logging
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from instantid.few_steps import NO_FEW_STEPS, usual_settings
from instantid.messages import explain, say, user_error
from instantid.request import MAX_SEED, GenerationRequest, GenerationResult, Generator, Progress
from instantid.sentences import SENTENCES
from instantid.settings import write_settings
from instantid.styles import DEFAULT_NEGATIVE_PROMPT, NO_STYLE
from instantid.ui_look import known
from instantid.ui_results import save_pictures
from ip_adapter.errors import InstantIDError

log = logging.getLogger(__name__)

AUTO_SIZE = "auto"
OUTPUTS = ("gallery", "summary", "seed_used", "face_used", "key_points", "settings")
_TRACKER = gr.Progress()  # gradio swaps in one per run when it finds this as a default


class Session:
    """What one browser session wants of its run.

    gradio deep-copies the first value of a `gr.State` for each session and drops it with the session; each copy of
    this one is new, as an event cannot be copied and must not be shared.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.asked = False  # the button was pressed; the run may still wait its turn
        self.running = False

    def __deepcopy__(self, memo: dict) -> Session:
        return Session()

    def ask(self) -> None:
        """The button was pressed: an earlier cancel is over, unless it is the running job's."""
        if not self.running:
            self.cancelled.clear()
        self.asked = True

    def begin(self) -> None:
        """The run's turn has come. Over the API nobody asked before, so an earlier cancel is not meant for it."""
        if not self.asked:
            self.cancelled.clear()
        self.running = True

    def end(self) -> None:
        """The run is over, however it ended."""
        self.asked = self.running = False


def read_size(size: str | None) -> tuple[int | None, int | None]:
    """Width and height of "832x1216" or "832 × 1216"; (None, None) for "auto" or nothing.

    Raises: UserError when it is neither.
    """
    if not (size or "").strip() or size == AUTO_SIZE:
        return None, None
    sides = re.fullmatch(r"\s*(\d{1,5})\s*[x×*]\s*(\d{1,5})\s*", size, re.IGNORECASE)
    if sides is None:
        raise user_error("ui.size_unreadable", size=size)
    return int(sides[1]), int(sides[2])


def read_seed(seed: str | None) -> int | None:
    """The seed in a text field that means "random" when empty. Raises: UserError when it holds no whole number."""
    seed = (seed or "").strip()
    if seed and not re.fullmatch(r"-?\d+", seed, re.ASCII):
        raise user_error("request.bad_seed", value=seed, most=MAX_SEED)
    return int(seed) if seed else None


def shown_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the controls show for the `fields` of a request, photos apart: `read_size` and `read_seed` undo it."""
    photos_and_sides = ("face", "more_faces", "pose", "width", "height")
    usual = usual_settings(fields["few_steps"])
    shown = {name: usual.get(name) if value is None else value for name, value in fields.items()}
    return {name: value for name, value in shown.items() if name not in photos_and_sides} | {
        "size": AUTO_SIZE if fields["width"] is None else f"{fields['width']}x{fields['height']}",
        "seed": "" if fields["seed"] is None else str(fields["seed"]),
    }


def summary(settings: dict[str, Any] | None, language: str) -> str:
    """Size and timings of a result in one short line, from its settings; empty without a result."""
    if not settings:
        return ""
    seconds = dict(settings["seconds"])
    parts = [f"{settings['width']} × {settings['height']}"]
    if "total" in seconds:
        parts.append(say("ui.took", language, total=f"{seconds.pop('total'):.1f}"))
    if stages := _by_stage(seconds, " s", language):
        parts.append(stages)
    if settings.get("peak_vram_gib") is not None:
        peak = say("ui.peak_vram", language, gib=f"{settings['peak_vram_gib']:.1f}")
        stages = _by_stage(settings.get("stage_peaks", {}), "", language)
        parts.append(f"{peak} ({stages})" if stages else peak)
    return " · ".join(parts)


def _by_stage(amounts: Mapping[str, float], unit: str, language: str) -> str:
    """ "face 0.2 s, steps 5.1 s", without the stages that the page has no word for."""
    said = [(say(f"ui.took.{stage}", language), v) for stage, v in amounts.items() if f"ui.took.{stage}" in SENTENCES]
    return ", ".join(f"{stage} {amount:.1f}{unit}" for stage, amount in said)


def memory_now(language: str) -> str:
    """The line that the page keeps current: RAM and VRAM in use, with a warning when they are low."""
    from instantid.hardware import memory_in_use  # here: a page around another generator needs no torch until it opens
    from instantid.monitor import memory_line

    return memory_line(memory_in_use(), language)


def cancel(session: Session, language: str) -> None:
    """Asks the session's run to stop, also while it waits for its turn."""
    session.cancelled.set()
    gr.Info(say("ui.cancelling" if session.running or session.asked else "ui.nothing_runs", language))


def generate_function(
    generator: Generator, output_folder: Path | None, cache: Path, language: str, settings_file: Path | None = None
) -> Callable:
    """The function behind the button and the API's `/generate`; its parameter names are the API's.

    Args:
        output_folder: where every picture is kept; None keeps none beyond the page.
        cache: gradio's own folder, the only one that the page may show files from.
        language: the default of the API's `language`.
        settings_file: where the settings of each run are kept when it starts; None keeps none.
    """
    warn_once = functools.cache(gr.Warning)

    def remember(request: GenerationRequest, language: str) -> None:
        request.checked()  # what is refused is not remembered; as it was entered, without the seed that a check draws
        try:
            write_settings(settings_file, request, language)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            warn_once(say("ui.settings_not_kept", language, file=settings_file, reason=reason))

    def generate(
        face,
        prompt,
        negative_prompt=DEFAULT_NEGATIVE_PROMPT,
        style=NO_STYLE,
        more_faces=None,
        face_index=0,
        pose=None,
        pose_face_index=0,
        size=AUTO_SIZE,
        few_steps=NO_FEW_STEPS,
        steps=None,
        guidance_scale=None,
        guidance_end=1.0,
        identity_strength=0.8,
        adapter_strength=0.8,
        seed="",
        scheduler=None,
        count=1,
        region_mask=False,
        language=language,
        session=None,
        progress=_TRACKER,
    ):
        def report(done: Progress) -> None:
            said = say(f"ui.stage.{done.stage}", language, step=done.step, steps=done.steps)
            progress(done.step / done.steps if done.steps else 0.0, desc=said)

        session.begin()
        try:
            if session.cancelled.is_set():
                return _cancelled(language)
            width, height = read_size(size)
            request = GenerationRequest(
                face=face,
                prompt=prompt,
                negative_prompt=negative_prompt or "",
                style=style,
                more_faces=tuple(more_faces or ()),
                face_index=face_index,
                pose=pose,
                pose_face_index=pose_face_index,
                width=width,
                height=height,
                few_steps=few_steps,
                steps=steps,
                guidance_scale=guidance_scale,
                guidance_end=guidance_end,
                identity_strength=identity_strength,
                adapter_strength=adapter_strength,
                seed=read_seed(seed),
                scheduler=scheduler,
                count=count,
                region_mask=region_mask,
            )
            if settings_file is not None:
                remember(request, language)
            result = generator(request, report, session.cancelled.is_set)
            return _shown(result, output_folder, cache, language)
        except InstantIDError as error:
            if error.code == "generation.cancelled":
                return _cancelled(language)
            raise _page_error(explain(error, language)) from error
        except Exception as error:
            log.exception("a generation failed")
            raise _page_error(say("ui.unexpected", language, kind=type(error).__name__)) from error
        finally:
            session.end()

    return generate


def _shown(result: GenerationResult, output_folder: Path | None, cache: Path, language: str) -> tuple:
    """A result as the values of `OUTPUTS`, its pictures kept in `output_folder` if there is one."""
    cache.mkdir(parents=True, exist_ok=True)
    paths = save_pictures(result, Path(tempfile.mkdtemp(dir=cache)))
    if output_folder is not None:
        try:
            # Not its parents: under a Drive that is gone they would be made, on a disk that is thrown away.
            output_folder.mkdir(exist_ok=True)
            for path in paths:
                shutil.copy2(path, output_folder)
        except OSError as error:  # a full or missing Drive must not cost a finished picture
            reason = error.strerror or type(error).__name__
            gr.Warning(say("ui.not_saved", language, folder=output_folder, reason=reason))
    for note in result.notes:
        gr.Warning(say(note.key, language, **note.facts))
    settings = result.settings()
    if result.peak_vram_gib is not None:
        settings["peak_vram_gib"] = round(result.peak_vram_gib, 2)
        settings["stage_peaks"] = {stage: round(gib, 2) for stage, gib in result.stage_peaks.items()}
    captioned = [(str(path), say("ui.caption", language, seed=seed)) for path, seed in zip(paths, result.seeds)]
    return (
        captioned,
        summary(settings, language),
        str(result.seeds[0]),
        result.face_picture,
        result.key_points_picture,
        settings,
    )


def _cancelled(language: str) -> tuple:
    """Says that the run was cancelled and leaves the page as it is."""
    gr.Info(say("ui.cancelled", language))
    return (gr.update(),) * len(OUTPUTS)


def _page_error(sentence: str) -> gr.Error:
    """The red message of the page; its traceback would tell the log nothing more."""
    return gr.Error(sentence, **known(gr.Error, print_exception=False))
