"""Every sentence a person reads, in Spanish and English, and the way to it.

The sentences stand in `instantid/sentences/`, one module per subject, each a table `key -> (Spanish, English)`. Errors
of the two drop-in parts (`ip_adapter`, the pipeline file) are written in English where they are raised; their Spanish
stands in `sentences/library_errors.py` under the error's code.
"""

import locale
import os

from instantid.sentences import SENTENCES, SPANISH_LIBRARY_ERRORS
from ip_adapter.errors import InstantIDError, MachineError, StateError, UserError

LANGUAGES = {"es": "Español", "en": "English"}
DEFAULT_LANGUAGE = "es"


def say(key: str, language: str = DEFAULT_LANGUAGE, **facts: object) -> str:
    """The sentence `key` in `language` ("es" or "en") with its `{places}` filled from `facts`.

    Raises: KeyError for an unknown key or language (a bug, never a user's doing).
    """
    spanish, english = SENTENCES[key]
    return {"es": spanish, "en": english}[language].format(**facts)


def user_error(key: str, **facts: object) -> UserError:
    """The error for something given that cannot be used; its sentences are those of `key`."""
    return UserError(key, SENTENCES[key][1], **facts)


def state_error(key: str, **facts: object) -> StateError:
    """The error for a call at the wrong time; its sentences are those of `key`."""
    return StateError(key, SENTENCES[key][1], **facts)


def machine_error(key: str, **facts: object) -> MachineError:
    """The error for something this machine cannot do; its sentences are those of `key`."""
    return MachineError(key, SENTENCES[key][1], **facts)


def explain(error: InstantIDError, language: str = DEFAULT_LANGUAGE) -> str:
    """What `error` says, in `language`."""
    if error.code in SENTENCES:
        return say(error.code, language, **error.facts)
    if language == "es" and error.code in SPANISH_LIBRARY_ERRORS:
        return SPANISH_LIBRARY_ERRORS[error.code].format(**error.facts)
    return str(error)


def system_language() -> str:
    """The language of this machine if it is one of ours, else Spanish (`INSTANTID_LANGUAGE` overrides)."""
    named = os.environ.get("INSTANTID_LANGUAGE") or os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    for language in (named[:2].lower(), (locale.getlocale()[0] or "")[:2].lower()):
        if language in LANGUAGES:
            return language
    return DEFAULT_LANGUAGE
