"""Sentences about faces: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {}
