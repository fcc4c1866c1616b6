"""Sentences about generation: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {}
