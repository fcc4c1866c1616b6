"""Sentences of the evaluation: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "evaluate.no_folder": (
        "No existe la carpeta {folder}. Da una con una subcarpeta, o una foto, por persona.",
        "There is no folder {folder}. Give one with a sub-folder, or a photo, for each person.",
    ),
    "evaluate.no_photos": (
        "En {folder} no hay fotos ({suffixes}). Pon en ella una subcarpeta, o una foto, por persona.",
        "There are no photos in {folder} ({suffixes}). Put a sub-folder, or a photo, for each person into it.",
    ),
    "evaluate.too_few_photos": (
        "Fotos de «{person}»: {count}; hacen falta {needed}, las de referencia y otra con la que comparar. Añade "
        "fotos o pide menos referencias.",
        "Photos of “{person}”: {count}; {needed} are needed, the references and another to compare with. Add photos, "
        "or ask for fewer references.",
    ),
    "evaluate.too_few_people": (
        "Se encontró una cara en las fotos de {count} de las {given} personas dadas; hacen falta al menos 2, para "
        "distinguir a una de las demás. Añade personas, o fotos de frente y bien iluminadas.",
        "A face was found in the photos of {count} of the {given} people given; at least 2 are needed, to tell one "
        "from the others. Add people, or frontal, well-lit photos.",
    ),
    "evaluate.no_pose": (
        "En ninguna foto de --poses se encontró una cara (fotos: {count}). Usa fotos de frente y bien iluminadas.",
        "In no photo of --poses a face was found (photos: {count}). Use frontal, well-lit photos.",
    ),
    "evaluate.no_people": (
        "{folder} no trae retratos de ejemplo. Di con --people a quién evaluar: una carpeta, o «drawn».",
        "{folder} brings no example portraits. Say with --people whom to evaluate: a folder, or “drawn”.",
    ),
    "evaluate.no_face_world": (
        "Las personas dibujadas necesitan training/, que solo está en el repositorio clonado. Ejecuta la orden en su "
        "carpeta, o da a --people una carpeta con fotos.",
        "Drawn people need training/, which only the cloned repository has. Run the command in its folder, or give "
        "--people a folder of photos.",
    ),
    "evaluate.bad_count": (
        "«{text}»: el número de personas dibujadas va de {least} a {most}; por ejemplo, drawn:16.",
        "“{text}”: the number of drawn people goes from {least} to {most}; for example drawn:16.",
    ),
    "evaluate.prompts_unreadable": (
        "El archivo de descripciones {file} no se puede leer ({reason}). Da un archivo de texto en UTF-8, una por "
        "línea.",
        "The file of prompts {file} cannot be read ({reason}). Give a text file in UTF-8, one prompt on each line.",
    ),
    "evaluate.no_prompts": (
        "El archivo {file} no contiene ninguna descripción. Escribe una por línea.",
        "The file {file} holds no prompt. Write one on each line.",
    ),
    "evaluate.bad_prompt": (
        "La línea {line} de {file} no se entiende. Escribe solo la descripción, o un objeto JSON con «prompt» y, si "
        "quieres, {traits}.",
        "Line {line} of {file} makes no sense. Write the prompt alone, or a JSON object with “prompt” and, if you "
        "like, {traits}.",
    ),
    "evaluate.bad_variant": (
        "«{word}» no dice qué variar. Se escribe NOMBRE=VALOR,VALOR con uno de estos nombres: {names}.",
        "“{word}” does not say what to vary. It is written NAME=VALUE,VALUE with one of these names: {names}.",
    ),
    "evaluate.bad_size": (
        "«{size}» no es un tamaño: da un lado, o ancho y alto.",
        "“{size}” is no size: give one side, or width and height.",
    ),
    "evaluate.traits_unusable": (
        "El clasificador {file} no se puede usar ({reason}): necesita una entrada RGB de tamaño fijo y los nombres de "
        "las clases en sus metadatos. Bórralo para evaluar sin él.",
        "The classifier {file} cannot be used ({reason}): it needs one RGB input of a fixed size and the names of the "
        "classes in its metadata. Delete it to evaluate without it.",
    ),
    "evaluate.progress": ("🖼️ {row}/{rows} · {name} · {done}/{total}", "🖼️ {row}/{rows} · {name} · {done}/{total}"),
    "evaluate.reading": ("🙂 Fotos de {people} personas …", "🙂 Photos of {people} people …"),
    "evaluate.row_done": (
        "{name}: parecido {likeness} · identificadas {identified} · puntos {points} · {seconds} s{more}",
        "{name}: likeness {likeness} · identified {identified} · points {points} · {seconds} s{more}",
    ),
    "evaluate.written": ("✅ Informe en {file}", "✅ Report in {file}"),
    "evaluate.title": ("Evaluación", "Evaluation"),
    "evaluate.settings": ("Con qué se midió", "Measured with"),
    "evaluate.plain": ("sin cambios", "as it is"),
    "evaluate.reference": ("foto", "photo"),
    "evaluate.pose": ("postura", "pose"),
    "evaluate.variant": ("variante", "variant"),
    "evaluate.pictures": ("imágenes", "pictures"),
    "evaluate.likeness": ("parecido", "likeness"),
    "evaluate.identified": ("identificadas", "identified"),
    "evaluate.points": ("error de los puntos", "key-point error"),
    "evaluate.style": ("estilo", "style"),
    "evaluate.background": ("fondo", "background"),
    "evaluate.expression": ("expresión", "expression"),
    "evaluate.hair": ("pelo", "hair"),
    "evaluate.without_face": ("sin cara", "no face"),
    "evaluate.seconds": ("s/imagen", "s/picture"),
    "evaluate.vram": ("pico de VRAM (GiB)", "peak VRAM (GiB)"),
    "evaluate.setting_bundle": ("modelos", "models"),
    "evaluate.setting_device": ("dispositivo", "device"),
    "evaluate.setting_people": ("personas", "people"),
    "evaluate.setting_poses": ("posturas", "poses"),
    "evaluate.poses_own": ("otras fotos de cada persona", "further photos of each person"),
    "evaluate.poses_others": ("fotos de los demás", "photos of the others"),
    "evaluate.setting_prompts": ("descripciones, por turnos", "prompts, in turn"),
    "evaluate.setting_count": ("imágenes por persona y fila", "pictures of each person in a row"),
    "evaluate.setting_seed": ("primera semilla", "first seed"),
    "evaluate.setting_request": ("ajustes de todas las filas", "settings of every row"),
    "evaluate.setting_versions": ("versiones", "versions"),
    "evaluate.note_chance": (
        "Identificada: de {people} personas, la que más se parece es la correcta; al azar sería el {chance}. Sin cara "
        "cuenta como no identificada.",
        "Identified: of {people} people the most alike is the right one; chance would be {chance}. A picture without "
        "a face counts as not identified.",
    ),
    "evaluate.note_interval": (
        "Entre corchetes, el intervalo del 95 % (bootstrap sobre las personas).",
        "In brackets the 95 % interval (bootstrap over the people).",
    ),
    "evaluate.note_same_recogniser": (
        "El parecido lo mide el mismo reconocedor que dio la identidad: es demasiado amable. Sirve para comparar "
        "filas entre sí.",
        "Likeness is measured by the recogniser that gave the identity: it is too kind. It serves to compare rows "
        "with each other.",
    ),
    "evaluate.note_same_photo": (
        "De algunas personas hay una sola foto: se compara con la misma de la que se dibujó, lo que favorece el "
        "parecido.",
        "Of some people there is one photo: pictures are compared with the one that they were made from, which "
        "favours likeness.",
    ),
    "evaluate.note_no_classifier": (
        "Sin clasificador (scoring/traits.onnx) no se mide si se siguió la descripción.",
        "Without a classifier (scoring/traits.onnx) it is not measured whether the prompt was followed.",
    ),
    "evaluate.note_left_out": (
        "Fotos sin cara, que no cuentan: {count} ({names}).",
        "Photos without a face, which do not count: {count} ({names}).",
    ),
}
