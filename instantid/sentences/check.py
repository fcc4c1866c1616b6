"""Sentences about check: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {}
