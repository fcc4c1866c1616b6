"""Sentences of the notebook: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "notebook.code_from": ("📦 Código · {origin}: {folder}", "📦 Code · {origin}: {folder}"),
    "pack.missing": (
        "Falta «{part}» en {folder}: el cuaderno se empaqueta desde la carpeta completa del proyecto, no desde un "
        "paquete instalado. Clona el repositorio y ejecuta ahí «python -m instantid pack».",
        "“{part}” is missing in {folder}: the notebook is packed from the project's whole folder, not from an "
        "installed package. Clone the repository and run “python -m instantid pack” there.",
    ),
    "notebook.upload": ("📷 Sube una foto de la persona:", "📷 Upload a photo of the person:"),
    "notebook.example_portrait": (
        "📷 Sin foto: se usa un retrato de ejemplo de los pesos, {file}.",
        "📷 No photo given: an example portrait of the weights is used, {file}.",
    ),
    "notebook.example_photo": (
        "📷 Sin foto: se usa la de ejemplo de insightface (seis personas; la cara más grande).",
        "📷 No photo given: insightface's example is used (six people; the largest face).",
    ),
}
