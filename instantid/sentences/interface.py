"""Sentences about interface: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {}
