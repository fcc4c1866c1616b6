"""How the page looks, and what differs between gradio 5 and 6.

Signatures are asked, not version numbers: `theme` and `css` moved from `Blocks()` to `launch()`, options came and went.
"""

import inspect
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio_client import utils as client_utils

# System fonts only: the page must look right where nothing but this server can be reached.
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
#head { align-items: center; }
#title h1 { margin: 0; font-size: 1.6rem; }
#title p { margin: 0.15rem 0 0; opacity: 0.75; }
#language { flex: 0 0 auto !important; min-width: 0 !important; width: auto !important; }
#state { justify-content: space-between; gap: 0.2rem 1.5rem; font-size: 0.85rem; opacity: 0.8; }
#about, #memory { flex: 0 1 auto; width: auto; min-width: 0; font-size: 0.85rem; }
#memory { font-variant-numeric: tabular-nums; }
#examples { gap: 0.4rem; flex-wrap: wrap; }
#examples button { flex: 0 1 auto; min-width: 0; font-weight: 400; font-size: 0.8rem; white-space: normal; }
#gallery { height: 560px; }
@media (max-width: 640px) { #gallery { height: 380px; } #about { margin-bottom: 0; } }
#summary { font-size: 0.9rem; }
"""

# Sets the page's language for screen readers and hyphenation.
SPEAK = "(language) => { document.documentElement.lang = language; }"


def known(function: Callable, **options: Any) -> dict[str, Any]:
    """Those of `options` that `function` names among its parameters in the gradio that is installed."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in names}


_PRIVATE = known(gr.on, api_visibility="private") or {"api_name": False}

QUIETLY = {"queue": False, "show_progress": "hidden"} | _PRIVATE
"""Event options for the page's own small steps: at once, without a spinner, out of the API."""

QUIETLY_LOADED = known(gr.Examples, examples_per_page=24, cache_examples=False, **_PRIVATE)
"""The same for pictures to try the page with."""

# No "share": it would send people's pictures to another site.
BARE = known(gr.Image, buttons=[], show_share_button=False, show_download_button=False, show_fullscreen_button=False)
WITH_DOWNLOAD = known(gr.Image, buttons=["download", "fullscreen"], show_share_button=False)
"""Buttons on a picture that comes in, and on one that comes out."""


def mend_schema_reader() -> None:
    """Lets gradio before 5.23 describe file uploads beside pydantic 2.11 or newer; does nothing where none is needed.

    That pydantic writes `additionalProperties: true`, that gradio asks the `true` for its keys, and no page opens.
    """
    try:
        client_utils.json_schema_to_python_type({"type": "object", "additionalProperties": True})
    except TypeError:
        read = client_utils._json_schema_to_python_type
        client_utils._json_schema_to_python_type = lambda schema, defs: "Any" if schema is True else read(schema, defs)


def look() -> dict[str, Any]:
    """Theme and style sheet, by gradio's names for them."""
    theme = gr.themes.Default(
        primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=_fonts(_FONT), font_mono=_fonts(_MONO)
    )
    return {"theme": theme, "css": CSS}


def _fonts(names: tuple[str, ...]) -> list[gr.themes.Font]:
    """Fonts of the person's own system; gradio 5 would ask its server for a file of a plain name."""
    return [gr.themes.Font(name) for name in names]


def launch_options() -> dict[str, Any]:
    """What this page asks of `launch()`, reduced to what the installed gradio knows."""
    return known(
        gr.Blocks.launch,
        **look(),
        max_file_size="20mb",
        ssr_mode=False,
        run_history=False,  # it would keep people's photos in the browser
        footer_links=["api"],
    )
