"""Sentences of the notebook: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "notebook.upload": ("📷 Sube una foto de la persona:", "📷 Upload a photo of the person:"),
    "notebook.example_photo": (
        "📷 Sin foto: se usa la de ejemplo de insightface (seis personas; la cara más grande).",
        "📷 No photo given: insightface's example is used (six people; the largest face).",
    ),
}
