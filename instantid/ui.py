"""The page: its layout and its wiring. It knows a generator to call, and no model code."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from instantid.few_steps import FEW_STEPS, NO_FEW_STEPS, USUAL, usual_settings
from instantid.messages import DEFAULT_LANGUAGE, LANGUAGES, say
from instantid.request import BOUNDS, SCHEDULERS, GenerationRequest, Generator
from instantid.settings import read_settings
from instantid.styles import STYLES
from instantid.ui_look import (
    BARE,
    QUIETLY,
    QUIETLY_LOADED,
    SPEAK,
    WITH_DOWNLOAD,
    known,
    launch_options,
    look,
    mend_schema_reader,
)
from instantid.ui_run import AUTO_SIZE, OUTPUTS, Session, cancel, generate_function, memory_now, shown_values, summary
from instantid.ui_words import Wording

SIZES = ("832x1216", "896x1152", "960x1088", "1088x960", "1152x896", "1216x832")  # what SDXL was trained on
EXAMPLES = ("example_1", "example_2", "example_3", "example_4")
# Only queued steps may show a message; without a limit they never wait there.
IN_QUEUE = {"queue": True, "concurrency_limit": None}
MEMORY_SECONDS = 2  # between two looks at the memory while the page is open
CACHE_SWEEP = (3600, 86400)  # seconds: every hour, the page's own copies older than a day are deleted


def create_demo(
    generator: Generator,
    *,
    language: str = DEFAULT_LANGUAGE,
    about: str | Mapping[str, str] = "",
    portraits: Sequence[Path] = (),
    prompts: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    output_folder: Path | None = None,
    settings_file: Path | None = None,
) -> gr.Blocks:
    """The page around a ready generator; start it with `launch`.

    Args:
        generator: called as `generator(request, on_progress, cancelled)`, one run at a time.
        language: "es" or "en", the language the page opens in; a person can switch it there.
        about: a line or two on what runs (device, base model), or one such text per language.
        portraits: files to try the page with; each is shown, and one press makes it the face photo.
        prompts: to try the page with, instead of its own; the same in every language.
        defaults: first values of the controls, by the field names of `GenerationRequest`.
        output_folder: every picture is also kept here as PNG with its settings inside; None keeps none.
        settings_file: what was last set, in JSON: written when a run starts, and where the page begins, also after a
            reload, over `language` and `defaults`; None keeps nothing.
    """
    about = about if isinstance(about, Mapping) else dict.fromkeys(LANGUAGES, about)
    fields = vars(GenerationRequest(face=None, prompt="")) | dict(defaults or {})
    kept = read_settings(settings_file)
    language = kept.language or language
    first = shown_values(fields | kept.fields)
    wording = Wording(language)
    with gr.Blocks(
        title="InstantID", analytics_enabled=False, delete_cache=CACHE_SWEEP, **known(gr.Blocks, **look())
    ) as demo:
        controls: dict[str, Any] = {"session": gr.State(Session())}
        with gr.Row(elem_id="head"):
            with gr.Column(scale=5, min_width=220, elem_id="title"):
                gr.Markdown("# InstantID")
                wording.place(gr.Markdown, "subtitle")
            controls["language"] = gr.Radio(
                [(name, code) for code, name in LANGUAGES.items()],
                value=language,
                label="Idioma · Language",
                show_label=False,
                container=False,
                elem_id="language",
            )
        with gr.Row(elem_id="state"):
            about_line = gr.Markdown(about[language], visible=any(about.values()), elem_id="about")
            memory = gr.Markdown(elem_id="memory")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                controls |= _asked(wording, first, portraits, prompts)
                with gr.Row():
                    start = wording.place(gr.Button, "generate", variant="primary", scale=3, min_width=120)
                    stop = wording.place(gr.Button, "cancel", variant="secondary", scale=1, min_width=100)
                controls |= _folded(wording, first)
            with gr.Column(scale=6, min_width=320):
                results, reuse, random = _results(wording)

        generate = generate_function(
            generator, output_folder, Path(results["gallery"].GRADIO_CACHE), language, settings_file
        )
        # Asking stays out of the queue: from the press on, the run can be cancelled while it waits.
        asked = start.click(Session.ask, controls["session"], **QUIETLY)
        generated = asked.then(
            generate,
            [controls[name] for name in inspect.signature(generate).parameters if name in controls],
            [results[name] for name in OUTPUTS],
            api_name="generate",
            scroll_to_output=True,
            **known(gr.on, show_progress_on=[results["gallery"]]),
        )
        generated.success(_show_first, results["settings"], results["gallery"], **QUIETLY)
        stop.click(
            cancel,
            [controls["session"], controls["language"]],
            show_progress="hidden",
            api_name="cancel",
            **IN_QUEUE,
        )

        reuse.click(lambda seed: seed, results["seed_used"], controls["seed"], **QUIETLY)
        random.click(lambda: "", None, controls["seed"], **QUIETLY)
        results["gallery"].select(_seed_of, None, results["seed_used"], **QUIETLY)

        # A tick that finds the one before unanswered is left out, so a busy machine is not asked more and more.
        gr.on(
            [demo.load, gr.Timer(MEMORY_SECONDS).tick, controls["language"].input],
            memory_now,
            controls["language"],
            memory,
            trigger_mode="once",
            **QUIETLY,
        )

        def relabel(language: str, settings: dict | None) -> list:
            return [*wording.updates(language), about[language], summary(settings, language)]

        controls["language"].input(
            relabel,
            [controls["language"], results["settings"]],
            [*wording.components, about_line, results["summary"]],
            **QUIETLY,
        )
        hears = [demo.load, controls["language"].input]
        if settings_file is not None:
            warn_once = functools.cache(gr.Warning)

            def recall() -> dict:
                kept = read_settings(settings_file)
                spoken = kept.language or language
                updates = dict(zip(wording.components, wording.updates(spoken)))
                for name, value in shown_values(fields | kept.fields).items():
                    updates[controls[name]] |= {"value": value}
                return updates | {about_line: about[spoken], controls["language"]: spoken}

            def warn() -> None:
                kept = read_settings(settings_file)
                if kept.problem:
                    warn_once(say(kept.problem.key, kept.language or language, **kept.problem.facts))

            everything = [*wording.components, about_line, controls["language"]]
            hears.append(demo.load(recall, None, everything, **QUIETLY).then)
            demo.load(warn, None, None, **QUIETLY | IN_QUEUE)
        for hear in hears:
            hear(None, controls["language"], None, js=SPEAK, **QUIETLY)
    return demo.queue(default_concurrency_limit=1)


def launch(demo: gr.Blocks, **options: Any) -> Any:
    """Starts the page: uploads bounded, no files of the machine served. `options` are gradio's and win over ours."""
    mend_schema_reader()
    return demo.launch(**(launch_options() | options))


def _asked(
    wording: Wording, first: Mapping[str, Any], portraits: Sequence[Path], prompts: Sequence[str]
) -> dict[str, Any]:
    """The controls that everyone sees."""
    with gr.Row():
        photo = {"type": "filepath", "sources": ["upload", "clipboard"], "height": 240, "min_width": 150, **BARE}
        face = _untouched(wording.place(gr.Image, "face", elem_id="face", **photo))
        pose = _untouched(wording.place(gr.Image, "pose", elem_id="pose", **photo))
    if portraits:
        files = [Path(file).resolve() for file in portraits]
        gr.set_static_paths(files)  # gradio gives out files of some folders only, and these by name
        shown = gr.Examples([[str(file)] for file in files], face, elem_id="portraits", **QUIETLY_LOADED)
        wording.adopt(shown.dataset, "portraits")
    prompt = wording.place(gr.Textbox, "prompt", value=first["prompt"], lines=2, max_lines=8, elem_id="prompt")
    with gr.Row(elem_id="examples"):
        buttons = [gr.Button(text, size="sm") for text in prompts]
        for example in buttons or [wording.place(gr.Button, name, size="sm") for name in EXAMPLES]:
            example.click(lambda words: words, example, prompt, **QUIETLY)
    with gr.Row():
        style = wording.place(
            gr.Dropdown, "style", _style_choices, value=first["style"], min_width=150, elem_id="style"
        )
        # A text field, as gradio's number field turns "empty" into 0, which is a seed.
        seed = wording.place(gr.Textbox, "seed", value=first["seed"], max_lines=1, min_width=150, elem_id="seed")
    return {"face": face, "pose": pose, "prompt": prompt, "style": style, "seed": seed}


def _folded(wording: Wording, first: Mapping[str, Any]) -> dict[str, Any]:
    """The controls with defaults that suit most, folded away by subject."""
    controls: dict[str, Any] = {}

    def slider(name: str) -> None:
        bounds = BOUNDS[name]
        controls[name] = wording.place(
            gr.Slider,
            name,
            minimum=bounds.least,
            maximum=bounds.most,
            step=bounds.step,
            value=first[name],
            elem_id=name,
        )

    def number(name: str) -> None:
        controls[name] = wording.place(gr.Number, name, value=first[name], min_width=150)

    with wording.place(gr.Accordion, "face_fold", open=False):
        slider("adapter_strength")
        slider("identity_strength")
        controls["region_mask"] = wording.place(gr.Checkbox, "region_mask", value=first["region_mask"])
        controls["more_faces"] = wording.place(
            gr.File, "more_faces", file_count="multiple", file_types=["image"], type="filepath", height=180
        )
        with gr.Row():
            number("face_index")
            number("pose_face_index")
    with wording.place(gr.Accordion, "picture_fold", open=False):
        # The same words in both languages: gradio 4 keeps the old text of a field that one may write in.
        controls["size"] = wording.place(
            gr.Dropdown,
            "size",
            lambda language: [(name.replace("x", " × "), name) for name in (AUTO_SIZE, *SIZES)],
            value=first["size"],
            allow_custom_value=True,
            elem_id="size",
        )
        slider("count")
    with wording.place(gr.Accordion, "drawing_fold", open=False):
        controls["negative_prompt"] = wording.place(
            gr.Textbox, "negative_prompt", value=first["negative_prompt"], lines=2, max_lines=8
        )
        few_steps = wording.place(
            gr.Dropdown, "few_steps", _few_steps_choices, value=first["few_steps"], elem_id="few_steps"
        )
        controls["few_steps"] = few_steps
        slider("steps")
        slider("guidance_scale")
        slider("guidance_end")
        controls["scheduler"] = wording.place(
            gr.Dropdown, "scheduler", lambda language: [(name, name) for name in SCHEDULERS], value=first["scheduler"]
        )
        decided = [controls[name] for name in USUAL]
        few_steps.input(lambda name: list(usual_settings(name).values()), few_steps, decided, **QUIETLY)
    return controls


def _results(wording: Wording) -> tuple[dict[str, Any], gr.Button, gr.Button]:
    """What comes back, and the two buttons that act on its seed."""
    results = {
        "gallery": wording.place(
            gr.Gallery, "gallery", columns=2, object_fit="contain", preview=True, elem_id="gallery", **WITH_DOWNLOAD
        ),
        "summary": gr.Markdown(label="summary", elem_id="summary"),
    }
    with gr.Row(equal_height=False):
        results["seed_used"] = wording.place(
            gr.Textbox, "seed_used", interactive=False, max_lines=1, min_width=150, elem_id="seed_used"
        )
        with gr.Column(min_width=150):
            reuse = wording.place(gr.Button, "reuse_seed", size="sm")
            random = wording.place(gr.Button, "random_seed", size="sm")
    with gr.Row():
        seen = {"interactive": False, "height": 180, "min_width": 150, **WITH_DOWNLOAD}
        results["face_used"] = wording.place(gr.Image, "face_used", **seen)
        results["key_points"] = wording.place(gr.Image, "key_points", **seen)
    with wording.place(gr.Accordion, "settings_fold", open=False):
        results["settings"] = wording.place(gr.JSON, "settings")
    return results, reuse, random


def _untouched(photo: gr.Image) -> gr.Image:
    """`photo` handing on the uploaded file as it is.

    gradio would open it first and answer an unreadable one in its own words; `images` reads it and says what is wrong.
    """
    photo.preprocess = lambda payload: payload and payload.path
    return photo


def _show_first(settings: dict | None) -> dict:
    """The gallery on its first picture: it would stay on the place that the last result was left at."""
    return gr.update(selected_index=0) if settings else gr.update()


def _seed_of(chosen: gr.SelectData) -> str:
    """The seed of the picture that was chosen in the gallery: the last word of its caption, in both languages."""
    return chosen.value["caption"].split()[-1]


def _few_steps_choices(language: str) -> list[tuple[str, str]]:
    names = [(few.spanish if language == "es" else few.english, name) for name, few in FEW_STEPS.items()]
    return [(say("ui.few_steps.none", language), NO_FEW_STEPS), *names]


def _style_choices(language: str) -> list[tuple[str, str]]:
    return [(style.spanish if language == "es" else style.english, name) for name, style in STYLES.items()]
