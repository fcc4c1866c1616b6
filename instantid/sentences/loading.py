"""Sentences about loading: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {}
