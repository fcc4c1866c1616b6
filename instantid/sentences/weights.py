"""Sentences about weights: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {}
