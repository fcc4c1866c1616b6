"""Sentences about errors: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {}
