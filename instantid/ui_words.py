"""Which sentence stands on which property of which component, so that a page can be said again in another language."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.blocks import Block

from instantid.messages import say
from instantid.sentences import SENTENCES

SPOKEN = ("label", "info", "placeholder", "value")  # properties that hold words

Choices = Callable[[str], list[tuple[str, str]]]  # language -> (words, value) pairs


class Wording:
    """The worded components of one page.

    Args:
        language: "es" or "en", the one the page opens in.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._placed: list[tuple[Block, str, Choices | None]] = []

    def place(self, kind: type[Block], name: str, choices: Choices | None = None, **options: Any) -> Any:
        """A new component of `kind` that carries the sentences `ui.<name>.<property>`; the rest as gradio takes it."""
        component = kind(**words(name, self.language, choices), **options)
        self._placed.append((component, name, choices))
        return component

    def adopt(self, component: Block, name: str) -> None:
        """Let a component that something else made carry the sentences `ui.<name>.<property>` from now on."""
        for key, text in words(name, self.language).items():
            setattr(component, key, text)
        self._placed.append((component, name, None))

    @property
    def components(self) -> list[Block]:
        """Every component placed so far, in the order of `updates`."""
        return [component for component, _, _ in self._placed]

    def updates(self, language: str) -> list[dict]:
        """One gradio update per component: its words in `language`, and nothing that a person entered."""
        return [gr.update(**words(name, language, choices)) for _, name, choices in self._placed]


def words(name: str, language: str, choices: Choices | None = None) -> dict[str, Any]:
    """The worded properties of the component `name` in `language`."""
    said = {key: say(f"ui.{name}.{key}", language) for key in SPOKEN if f"ui.{name}.{key}" in SENTENCES}
    return said if choices is None else said | {"choices": choices(language)}
