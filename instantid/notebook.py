"""Verbs for the notebook's cells, which define nothing themselves."""

from __future__ import annotations

import sys
from pathlib import Path

from instantid.messages import explain, say
from ip_adapter.errors import InstantIDError


def plain_errors(language: str) -> None:
    """From now on an error of the project stops a cell with its one sentence, without a traceback; bugs keep theirs."""
    from IPython import get_ipython

    def show(shell, kind, error, traceback, tb_offset=None) -> None:
        print(f"❌ {explain(error, language)}", file=sys.stderr)

    get_ipython().set_custom_exc((InstantIDError,), show)


def pick_photo(path: str, language: str) -> str | Path:
    """The photo that a cell works on: `path`; without one, an upload in Colab, or elsewhere insightface's example."""
    if path.strip():
        return path.strip()
    if "google.colab" in sys.modules:
        from google.colab import files

        print(say("notebook.upload", language))
        uploaded = files.upload()
        if uploaded:
            return next(iter(uploaded))
    import insightface

    print(say("notebook.example_photo", language))
    return Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"
