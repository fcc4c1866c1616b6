"""Sentences about a request and its run: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "request.no_face_photo": (
        "Falta la foto de la cara: sube una foto en la que se vea bien la persona.",
        "The face photo is missing: upload a photo that shows the person well.",
    ),
    "request.no_prompt": (
        "Falta la descripción: escribe qué imagen quieres, por ejemplo «una persona con un abrigo rojo en la nieve».",
        "The prompt is missing: write the picture you want, for example “a person in a red coat in the snow”.",
    ),
    "request.text_too_long": (
        "El texto de «{field}» tiene {length} caracteres; el máximo es {most}. Acórtalo.",
        "The text of “{field}” has {length} characters; the most is {most}. Shorten it.",
    ),
    "request.too_many_photos": (
        "Hay {count} fotos adicionales; el máximo es {most}. Quita algunas.",
        "There are {count} further photos; the most is {most}. Take some away.",
    ),
    "request.unknown_choice": (
        "«{field}» vale «{value}», que no existe. Elige uno de estos: {allowed}.",
        "“{field}” is “{value}”, which does not exist. Choose one of: {allowed}.",
    ),
    "request.out_of_range": (
        "«{field}» vale {value}; tiene que ser un número entre {least} y {most}.",
        "“{field}” is {value}; it must be a number from {least} to {most}.",
    ),
    "request.one_side": (
        "El tamaño es incompleto (ancho {width}, alto {height}): da los dos lados o ninguno.",
        "The size is incomplete (width {width}, height {height}): give both sides or neither.",
    ),
    "request.size_multiple": (
        "«{field}» vale {value}; tiene que ser múltiplo de {multiple}. El más cercano es {nearest}.",
        "“{field}” is {value}; it must be a multiple of {multiple}. The nearest is {nearest}.",
    ),
    "generation.released": (
        "Estos modelos ya se liberaron de la memoria. Ejecuta otra vez las celdas de modelos y de interfaz.",
        "These models have been released from memory. Run the models cell and the interface cell again.",
    ),
    "note.text_cut": (
        "«{field}» tiene {count} fichas de texto y SDXL lee {most}: el final no cuenta. Acórtalo.",
        "“{field}” has {count} tokens and SDXL reads {most}: the end does not count. Shorten it.",
    ),
    "generation.cancelled": ("Generación cancelada.", "Generation cancelled."),
    "note.few_steps_unsuited": (
        "«{few_steps}» se hizo para {steps} pasos, guía {guidance_scale} y el planificador {scheduler}: con otros "
        "ajustes la imagen sale peor.",
        "“{few_steps}” was made for {steps} steps, guidance {guidance_scale} and the scheduler {scheduler}: with "
        "other settings the picture suffers.",
    ),
    "note.no_compilation": (
        "Aquí no se pudo compilar, así que se usó la velocidad «instant»: {reason}",
        "Nothing could be compiled here, so the speed “instant” was used: {reason}",
    ),
    "note.no_graphs": (
        "Aquí no se pudieron usar grafos de CUDA, así que cada paso tardó más: {reason}",
        "CUDA graphs could not be used here, so each step took longer: {reason}",
    ),
    "note.stepped_down": (
        "La memoria no alcanzó: los modelos se cargaron de otra forma (descarga: {offload}, pesos: {storage}) y la "
        "misma imagen se repitió.",
        "Memory was too small: the models were loaded in another way (offload: {offload}, weights: {storage}) and the "
        "same picture was made again.",
    ),
    "generation.out_of_memory": (
        "La memoria no alcanza para {size} píxeles, tampoco de la forma más económica (descarga: {offload}). Pide una "
        "imagen más pequeña o cierra otros programas.",
        "Memory is too small for {size} pixels, even in the most economical way (offload: {offload}). Ask for a "
        "smaller picture, or close other programs.",
    ),
    "generation.not_finite": (
        "El modelo dio números no finitos en {precision}, que se verían como una imagen negra. Carga los modelos con "
        'precision="float32" u otro modelo base.',
        "The model gave numbers that are not finite in {precision}, which would show as a black picture. Load the "
        'models with precision="float32", or another base model.',
    ),
    "request.bad_seed": (
        "La semilla vale {value}; tiene que ser un número entero entre 0 y {most}, o vacía para una al azar.",
        "The seed is {value}; it must be a whole number from 0 to {most}, or empty for a random one.",
    ),
}
