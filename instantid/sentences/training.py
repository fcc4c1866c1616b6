"""Sentences of training: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    # Preparing pictures
    "training.no_pictures": (
        "En «{folder}» no hay imágenes ({suffixes}). Comprueba la ruta.",
        "There are no pictures ({suffixes}) in “{folder}”. Check the path.",
    ),
    "training.bad_metadata": (
        "La línea {line} de «{file}» no es un objeto JSON con «file_name». Corrígela o bórrala.",
        "Line {line} of “{file}” is not a JSON object with “file_name”. Mend or delete it.",
    ),
    "training.preparing": ("{done} de {total} imágenes", "{done} of {total} pictures"),
    "training.prepared": (
        "✅ {output}: {pictures} imágenes de {people} personas ({people_with_several} con varias); "
        "{without_caption} sin descripción, {skipped} omitidas",
        "✅ {output}: {pictures} pictures of {people} people ({people_with_several} with several); "
        "{without_caption} without caption, {skipped} skipped",
    ),
    "training.without_caption": (
        "⚠️ {count} imágenes no tienen descripción. Escríbela en un .txt del mismo nombre o en metadata.jsonl, borra el "
        "índice y repite.",
        "⚠️ {count} pictures have no caption. Write one into a .txt of the same name or into metadata.jsonl, delete the "
        "index and repeat.",
    ),
    "training.skipped": (
        "⚠️ {count} imágenes omitidas: «{file}» dice por qué. Borra ese archivo para volver a intentarlo.",
        "⚠️ {count} pictures skipped: “{file}” says why. Delete that file to try them again.",
    ),
    "training.no_faces": (
        "«{file}» no existe o no contiene ninguna cara. Prepara las imágenes con python -m training.prepare_faces.",
        "“{file}” does not exist or holds no face. Prepare the pictures with python -m training.prepare_faces.",
    ),
    # The run
    "training.nobody_left": (
        "Se reservan {count} personas para validar y en «{folder}» no queda nadie para entrenar. Añade imágenes de más "
        "personas o usa --validation-people 0.",
        "{count} people are kept for validation, and nobody in “{folder}” is left to train on. Add pictures of more "
        "people, or pass --validation-people 0.",
    ),
    "training.drops_too_often": (
        "drop_identity, drop_text y drop_both suman {total}; tienen que sumar 1 como mucho.",
        "drop_identity, drop_text and drop_both add up to {total}; they must add up to 1 at most.",
    ),
    "training.nothing_to_show": (
        "{folder} no trae retratos en examples/ o no trae descripciones («prompts» en bundle.json): hacen falta ambos. "
        "Usa el modelo pequeño, o añádelos.",
        "{folder} brings no portraits in examples/ or no prompts (“prompts” in bundle.json): both are needed. Take the "
        "small model, or add them.",
    ),
    "training.graphs_alone": (
        "--cuda-graphs necesita una sola GPU, --mixed-precision bf16 y --accumulation 1: cada paso se lanza entero. "
        "Cambia esas opciones o quita --cuda-graphs.",
        "--cuda-graphs needs one GPU, --mixed-precision bf16 and --accumulation 1: each step is launched whole. Change "
        "those options, or leave out --cuda-graphs.",
    ),
    "training.clock_without_minutes": (
        "schedule es «clock» y minutes es 0: indica en cuántos minutos debe caer la tasa de aprendizaje, por ejemplo "
        "--minutes 60.",
        "schedule is “clock” and minutes is 0: say in how many minutes the learning rate is to fall, --minutes 60 for "
        "example.",
    ),
    "training.prediction_type": (
        "El modelo base predice «{received}»; se puede entrenar con {needed}. Usa otro modelo base.",
        "The base model predicts “{received}”; training knows {needed}. Use another base model.",
    ),
    "training.output_taken": (
        "En «{folder}» ya hay un entrenamiento ({checkpoint}). Usa --resume para continuarlo, o elige otra carpeta.",
        "“{folder}” already holds a run ({checkpoint}). Pass --resume to go on with it, or choose another folder.",
    ),
    "training.checkpoint_not_written": (
        "No se puede escribir «{file}» ({reason}). Haz sitio en el disco y continúa con --resume.",
        "“{file}” cannot be written ({reason}). Make room on the disk and go on with --resume.",
    ),
    "training.checkpoint_unreadable": (
        "«{file}» no se puede leer ({reason}). Bórralo: con --resume se continúa desde el anterior.",
        "“{file}” cannot be read ({reason}). Delete it: with --resume the run goes on from the one before.",
    ),
    "training.other_model": (
        "«{file}» no corresponde a este modelo ({detail}). Continúa con el mismo modelo base, --heads, --dim, --depth "
        "y optimizador, o elige otra carpeta.",
        "“{file}” is not of this model ({detail}). Go on with the same base model, --heads, --dim, --depth and "
        "optimizer, or choose another folder.",
    ),
    "training.no_8bit": (
        "adamw8bit necesita bitsandbytes y no se puede importar ({reason}). Instálalo o usa --optimizer adamw.",
        "adamw8bit needs bitsandbytes, which cannot be imported ({reason}). Install it, or pass --optimizer adamw.",
    ),
    "training.not_finite": (
        "En el paso {step} el error no es un número finito (precisión {precision}). Continúa desde el último punto "
        "guardado con --resume y una tasa de aprendizaje menor, o con bf16.",
        "At step {step} the loss is not a finite number (precision {precision}). Go on from the last checkpoint with "
        "--resume and a smaller learning rate, or with bf16.",
    ),
    "training.time_is_up": (
        "⏸️ Tiempo agotado en el paso {step}; guardado en {folder}. Continúa con --resume.",
        "⏸️ Time is up at step {step}; saved in {folder}. Go on with --resume.",
    ),
    "training.finished": (
        "✅ {folder}: úsalo con python -m instantid ui --bundle {folder} --base {base}",
        "✅ {folder}: use it with python -m instantid ui --bundle {folder} --base {base}",
    ),
    # The small bundle
    "training.bundle_too_large": (
        "«{file}» del paquete ocupa {size}; puede ocupar {most} como mucho. Reduce los tamaños en la receta.",
        "“{file}” of the bundle takes {size}; it may take {most} at most. Make the sizes of the recipe smaller.",
    ),
    "training.stage_missing": (
        "En «{folder}» falta lo que entrena la etapa «{stage}». Ejecútala antes: --stage {stage}.",
        "“{folder}” lacks what stage “{stage}” trains. Run it first: --stage {stage}.",
    ),
    "training.stage_brought": (
        "«{file}» ya está y no hay punto guardado desde el que seguir: se usa tal como está. Bórralo para entrenarlo.",
        "“{file}” is there, without a checkpoint to go on from: it is used as it is. Delete it to have it trained.",
    ),
    "training.small_bundle": ("✅ {folder}: {size}", "✅ {folder}: {size}"),
}
