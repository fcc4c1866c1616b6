"""Sentences of the page: key -> (Spanish, English).

`ui.<component>.<property>` is what `ui_words` puts on that property of that component.
"""

SENTENCES: dict[str, tuple[str, str]] = {
    "ui.subtitle.value": (
        "Imágenes de una persona a partir de una foto de su cara.",
        "Pictures of a person from one photo of their face.",
    ),
    # What a person gives.
    "ui.face.label": ("Foto de la cara", "Face photo"),
    "ui.pose.label": ("Pose (opcional)", "Pose (optional)"),
    "ui.prompt.label": ("Descripción", "Prompt"),
    "ui.prompt.info": (
        "Qué imagen quieres: ropa, lugar, luz. En inglés, SDXL entiende más detalles.",
        "The picture you want: clothes, place, light.",
    ),
    "ui.prompt.placeholder": (
        "una persona con un abrigo rojo en la nieve",
        "a person in a red coat in the snow",
    ),
    "ui.portraits.label": ("Retratos para probar", "Portraits to try"),
    "ui.example_1.value": ("astronauta en un jardín de naranjos", "astronaut in an orange grove"),
    "ui.example_2.value": ("retrato junto a una ventana con lluvia", "portrait beside a rainy window"),
    "ui.example_3.value": ("capitana de un barco al amanecer", "ship captain at sunrise"),
    "ui.example_4.value": ("violinista en una calle de noche", "violinist in a street at night"),
    "ui.style.label": ("Estilo", "Style"),
    "ui.seed.label": ("Semilla", "Seed"),
    "ui.seed.placeholder": ("al azar", "random"),
    "ui.generate.value": ("Generar", "Generate"),
    "ui.cancel.value": ("Cancelar", "Cancel"),
    # Folded: the face.
    "ui.face_fold.label": ("Cara y parecido", "Face and likeness"),
    "ui.adapter_strength.label": ("Parecido (adaptador)", "Likeness (adapter)"),
    "ui.adapter_strength.info": (
        "¿Colores quemados o piel de plástico? Baja primero este.",
        "Burnt colours or plastic skin? Lower this one first.",
    ),
    "ui.identity_strength.label": (
        "Forma y lugar de la cara (IdentityNet)",
        "Shape and place of the face (IdentityNet)",
    ),
    "ui.identity_strength.info": (
        "Bájalo después, o si el estilo apenas se nota.",
        "Lower it next, or when the style hardly shows.",
    ),
    "ui.more_faces.label": ("Más fotos de la misma persona", "More photos of the same person"),
    "ui.face_index.label": ("Qué cara de la foto", "Which face of the photo"),
    "ui.face_index.info": ("0 es la más grande, 1 la siguiente…", "0 is the largest, 1 the next…"),
    "ui.pose_face_index.label": ("Qué cara de la pose", "Which face of the pose photo"),
    "ui.pose_face_index.info": ("0 es la más grande.", "0 is the largest."),
    "ui.region_mask.label": ("La identidad actúa solo alrededor de la cara", "The identity acts only around the face"),
    "ui.region_mask.info": (
        "Deja más libertad al fondo y a la ropa.",
        "Leaves more freedom to background and clothes.",
    ),
    # Folded: the picture.
    "ui.picture_fold.label": ("Tamaño y cantidad", "Size and count"),
    "ui.size.label": ("Tamaño (ancho×alto)", "Size (width×height)"),
    "ui.size.info": (
        "auto: según la foto. También puedes escribir el tuyo en múltiplos de 8. A 1024×1024 exactos suelen salir "
        "marcas de agua.",
        "auto: from the photo. You can also type your own in multiples of 8. Exactly 1024×1024 tends to bring "
        "watermarks.",
    ),
    "ui.count.label": ("Número de imágenes", "Number of pictures"),
    "ui.count.info": ("Cada una usa la semilla siguiente.", "Each one uses the next seed."),
    # Folded: the drawing.
    "ui.drawing_fold.label": ("Ajustes finos", "Fine tuning"),
    "ui.negative_prompt.label": ("Qué evitar", "Negative prompt"),
    "ui.few_steps.label": ("Pocos pasos", "Few steps"),
    "ui.few_steps.info": (
        "Una LoRA que dibuja en 4 u 8 pasos; la primera vez se descarga. Elegirla ajusta pasos, guía y planificador.",
        "A LoRA that draws in 4 or 8 steps, downloaded when first used. It sets steps, guidance and scheduler.",
    ),
    "ui.few_steps.none": ("No", "No"),
    "ui.steps.label": ("Pasos", "Steps"),
    "ui.steps.info": ("30 va bien; más pasos tardan más.", "30 does well; more steps take longer."),
    "ui.guidance_scale.label": ("Guía del texto", "Guidance"),
    "ui.guidance_scale.info": (
        "De 3,5 a 5 va bien; más alta quema los colores; 1 la apaga.",
        "3.5 to 5 does well; higher burns the colours; 1 turns it off.",
    ),
    "ui.guidance_end.label": ("Hasta dónde guía el texto", "Guidance until"),
    "ui.guidance_end.info": (
        "Parte de los pasos; los demás hacen la mitad del trabajo y siguen menos el texto.",
        "Share of the steps; the others do half the work and follow the prompt less.",
    ),
    "ui.scheduler.label": ("Planificador", "Scheduler"),
    "ui.scheduler.info": (
        "euler es el seguro.",
        "euler is the safe one.",
    ),
    # What comes back.
    "ui.gallery.label": ("Imágenes", "Pictures"),
    "ui.seed_used.label": ("Semilla de la imagen elegida", "Seed of the chosen picture"),
    "ui.reuse_seed.value": ("Repetir esta semilla", "Reuse this seed"),
    "ui.random_seed.value": ("Semilla al azar", "Random seed"),
    "ui.face_used.label": ("Cara usada", "Face used"),
    "ui.key_points.label": ("Puntos clave", "Key points"),
    "ui.settings_fold.label": ("Todos los ajustes de estas imágenes", "All settings of these pictures"),
    "ui.settings.label": ("Ajustes", "Settings"),
    "ui.caption": ("semilla {seed}", "seed {seed}"),
    # While it runs.
    "ui.stage.download": ("Descargando: {step} de {steps} MB", "Downloading: {step} of {steps} MB"),
    "ui.stage.faces": ("Buscando la cara", "Finding the face"),
    "ui.stage.text": ("Leyendo la descripción", "Reading the prompt"),
    "ui.stage.denoising": ("Dibujando: paso {step} de {steps}", "Drawing: step {step} of {steps}"),
    "ui.stage.decoding": ("Revelando la imagen", "Developing the picture"),
    "ui.stage.done": ("Listo", "Done"),
    "ui.took.faces": ("cara", "face"),
    "ui.took.text": ("texto", "text"),
    "ui.took.denoising": ("pasos", "steps"),
    "ui.took.decoding": ("revelado", "decoding"),
    "ui.took": ("{total} s en total", "{total} s in all"),
    "ui.peak_vram": ("{gib} GiB de GPU", "{gib} GiB of GPU"),
    "ui.cancelling": (
        "Cancelando: se detiene al acabar el paso en curso.",
        "Cancelling: it stops when the current step ends.",
    ),
    "ui.cancelled": ("Cancelado. Tus ajustes siguen aquí.", "Cancelled. Your settings are still here."),
    "ui.nothing_runs": ("No hay nada en marcha que cancelar.", "Nothing is running that could be cancelled."),
    # What goes wrong on the page itself.
    "ui.size_unreadable": (
        "El tamaño «{size}» no se entiende; escribe ancho×alto en píxeles, por ejemplo 832x1216, o auto.",
        "The size “{size}” cannot be read; write width×height in pixels, for example 832x1216, or auto.",
    ),
    "ui.not_saved": (
        "Las imágenes están en la página, pero no se pudieron guardar en «{folder}»: {reason}. Descárgalas desde aquí "
        "y comprueba que la carpeta existe y tiene sitio.",
        "The pictures are on the page but could not be saved in “{folder}”: {reason}. Download them here "
        "and check that the folder exists and has room.",
    ),
    "ui.settings_not_kept": (
        "La imagen se hace, pero tus ajustes no se pudieron guardar en «{file}»: {reason}. Comprueba que la carpeta "
        "existe y tiene sitio.",
        "The picture is being made, but your settings could not be kept in “{file}”: {reason}. Check that the folder "
        "exists and has room.",
    ),
    "ui.unexpected": (
        "Algo falló dentro del programa ({kind}). Lo que has escrito sigue aquí: vuelve a intentarlo. Si se repite, "
        "el detalle está en el registro de quien lo puso en marcha.",
        "Something broke inside the program ({kind}). What you entered is still here: try again. If it happens again, "
        "the details are in the log of whoever started it.",
    ),
}
