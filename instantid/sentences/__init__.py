"""The tables of sentences, one module per subject, merged into one."""

from instantid.sentences import (
    check,
    commands,
    evaluation,
    face_pack,
    face_world,
    faces,
    generation,
    interface,
    keeping,
    loading,
    migration,
    notebook,
    training,
    weights,
)
from instantid.sentences.library_errors import SPANISH_LIBRARY_ERRORS

_SUBJECTS = (
    check,
    commands,
    evaluation,
    face_pack,
    face_world,
    faces,
    generation,
    interface,
    keeping,
    loading,
    migration,
    notebook,
    training,
    weights,
)

SENTENCES: dict[str, tuple[str, str]] = {}
for _subject in _SUBJECTS:
    for _key, _sentence in _subject.SENTENCES.items():
        if _key in SENTENCES:
            raise KeyError(f"two sentences share the key {_key!r}")
        SENTENCES[_key] = _sentence

__all__ = ["SENTENCES", "SPANISH_LIBRARY_ERRORS"]
