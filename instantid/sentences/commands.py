"""Sentences of the command line: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "cli.program": (
        "InstantID: imágenes de una persona a partir de una foto de su cara y una descripción.",
        "InstantID: pictures of a person from one photo of their face and a prompt.",
    ),
    "cli.language": ("idioma de los mensajes", "language of the messages"),
    "cli.check": (
        "comprueba las versiones instaladas, la GPU y la memoria",
        "check the installed versions, the GPU and the memory",
    ),
    "cli.json": ("escribe el resultado como JSON", "print the result as JSON"),
    "cli.download": ("descarga los pesos publicados", "download the published weights"),
    "cli.convert": (
        "convierte ip-adapter.bin a safetensors (fp16); las cargas siguientes lo usan",
        "convert ip-adapter.bin to safetensors (fp16); later loads use it",
    ),
    "cli.commands": ("orden", "command"),
    "cli.pack": (
        "escribe el cuaderno autosuficiente, con el código dentro, y un zip del código",
        "write the self-contained notebook, with the code inside, and a zip of the code",
    ),
    "cli.pack_output": ("carpeta de los dos archivos", "folder of the two files"),
    "cli.convert_file": ("el archivo ip-adapter.bin", "the file ip-adapter.bin"),
    "cli.generate": ("genera imágenes y las guarda", "generate pictures and save them"),
    "cli.evaluate": (
        "mide parecido, puntos de la cara, obediencia a la descripción y tiempo, y escribe un informe",
        "measure likeness, key points, obedience to the prompt and time, and write a report",
    ),
    "cli.people": (
        "carpeta con una subcarpeta, o una foto, por persona; o drawn[:N], N personas dibujadas [las de ejemplo de los "
        "pesos]",
        "folder with a sub-folder, or a photo, for each person; or drawn[:N], N drawn people [the examples of the "
        "weights]",
    ),
    "cli.prompts": (
        "archivo con una descripción por línea, o un objeto JSON con prompt, style, background, expression, hair",
        "file with a prompt on each line, or a JSON object with prompt, style, background, expression, hair",
    ),
    "cli.poses": (
        "carpeta de fotos de las que tomar la posición de la cara; own: las otras de cada persona [las de los demás]",
        "folder of photos to take the place of the face from; own: each person's further photos [those of the others]",
    ),
    "cli.size": (
        "ancho y alto en píxeles, o un lado; si no, según la foto de la postura",
        "width and height in pixels, or one side; else as the pose photo has it",
    ),
    "cli.vary": (
        "una fila del informe por cada valor, con varias palabras por cada combinación; se puede repetir. NOMBRE: un "
        "ajuste de generate, o references, storage, heads",
        "a row of the report for each value, for several words for each combination; may be repeated. NAME: a setting "
        "of generate, or references, storage, heads",
    ),
    "cli.each": ("imágenes de cada persona en una fila", "pictures of each person in a row"),
    "cli.first_seed": ("semilla de la primera imagen", "seed of the first picture"),
    "cli.report": (
        "carpeta del informe; si ya tiene imágenes de esta evaluación, continúa [evaluation]",
        "folder of the report; where it has pictures of this evaluation already, it goes on [evaluation]",
    ),
    "cli.ui": ("abre la interfaz en el navegador", "open the interface in the browser"),
    "cli.bundle": (
        "carpeta con todos los pesos (base/, ControlNetModel/, ip-adapter.bin, antelopev2/)",
        "folder with all the weights (base/, ControlNetModel/, ip-adapter.bin, antelopev2/)",
    ),
    "cli.keep": (
        "carpeta que guarda pesos, imágenes y ajustes de una sesión a otra",
        "folder that keeps weights, pictures and settings from one session to the next",
    ),
    "cli.folder": ("dónde guardar las descargas", "where downloads are kept"),
    "cli.base": (
        "modelo base: YamerMIX_v8, sdxl-base-1.0, RealVisXL_V5.0, un repositorio, una carpeta o un .safetensors; demo: "
        "el modelo pequeño de demostración",
        "base model: YamerMIX_v8, sdxl-base-1.0, RealVisXL_V5.0, a repository, a folder or a .safetensors file; demo: "
        "the small demo model",
    ),
    "cli.faces_on": ("dónde analizar las caras", "where faces are analysed"),
    "cli.output": ("carpeta de las imágenes [outputs]", "folder of the pictures [outputs]"),
    "cli.share": ("crea un enlace público temporal", "make a temporary public link"),
    "cli.host": (
        "dirección en la que escucha; 0.0.0.0 la abre a la red",
        "address to listen on; 0.0.0.0 opens it to the network",
    ),
    "cli.port": ("puerto", "port"),
    "cli.no_browser": ("no abre el navegador", "do not open the browser"),
    "cli.face": ("foto de la persona", "photo of the person"),
    "cli.prompt": ("qué imagen quieres", "the picture you want"),
    "cli.negative_prompt": ("qué no quieres ver", "what you do not want to see"),
    "cli.style": ("estilo", "style"),
    "cli.more_faces": (
        "más fotos de la misma persona; se promedia su identidad",
        "more photos of the same person; their identity is averaged",
    ),
    "cli.face_index": ("qué cara de la foto; 0 = la más grande", "which face of the photo; 0 = the largest"),
    "cli.pose": ("foto de la que tomar la posición de la cara", "photo to take the place of the face from"),
    "cli.pose_face_index": ("qué cara de esa foto", "which face of that photo"),
    "cli.width": ("ancho en píxeles, múltiplo de 8", "width in pixels, a multiple of 8"),
    "cli.height": ("alto en píxeles, múltiplo de 8", "height in pixels, a multiple of 8"),
    "cli.steps": ("pasos", "steps"),
    "cli.few_steps": (
        "LoRA para dibujar en pocos pasos, que se descarga la primera vez",
        "a LoRA to draw in few steps, downloaded the first time",
    ),
    "cli.guidance_end": (
        "parte de los pasos con guía; los demás hacen la mitad del trabajo",
        "share of the steps with guidance; the others do half the work",
    ),
    "cli.guidance_scale": ("fuerza de la descripción; 1 = desactivada", "strength of the prompt; 1 = off"),
    "cli.identity_strength": (
        "fuerza de IdentityNet: posición y forma de la cara",
        "strength of IdentityNet: place and shape of the face",
    ),
    "cli.adapter_strength": ("fuerza del adaptador: parecido", "strength of the adapter: likeness"),
    "cli.seed": ("semilla; sin ella, al azar", "seed; without it, random"),
    "cli.scheduler": ("método de muestreo", "sampling method"),
    "cli.count": ("cuántas imágenes", "how many pictures"),
    "cli.region_mask": ("la identidad actúa solo alrededor de la cara", "the identity acts only around the face"),
    "cli.device": ("dispositivo", "device"),
    "cli.precision": ("precisión de los pesos", "precision of the weights"),
    "cli.offload": ("descarga de modelos a la RAM", "offload of models to RAM"),
    "cli.storage": (
        "pesos enteros o en 8 bits: de la UNet, o también de IdentityNet; fp8: además se multiplica en 8 bits",
        "weights in full or in 8 bits: the UNet's, or IdentityNet's too; fp8: multiplied in 8 bits as well",
    ),
    "cli.vae_slicing": ("decodificar las imágenes de una en una", "decode pictures one by one"),
    "cli.speed": (
        "instant: con grafos de CUDA; compiled: además compila bloques, la primera imagen tarda; plain: sin ellos",
        "instant: CUDA graphs; compiled: compiled blocks too, the first picture takes long; plain: without them",
    ),
    "cli.vae_precision": (
        "precisión al decodificar; por defecto, la que el VAE aguanta",
        "precision of decoding; by default what the VAE can stand",
    ),
    "cli.vae_tiling": ("decodificar las imágenes por trozos", "decode pictures in tiles"),
    "cli.attention_slicing": ("calcular la atención por trozos", "compute attention in slices"),
    "cli.memory_fraction": (
        "parte de la VRAM que se puede usar, de 0.1 a 1",
        "part of the VRAM that may be used, 0.1 to 1",
    ),
    "cli.downloaded": ("✅ Pesos completos en {folder}", "✅ Weights complete in {folder}"),
    "cli.converted": ("✅ {file} ({size})", "✅ {file} ({size})"),
    "cli.not_written": (
        "No se puede escribir en «{folder}» ({reason}). Elige otra carpeta o haz sitio en el disco.",
        "“{folder}” cannot be written to ({reason}). Choose another folder, or make room on the disk.",
    ),
    "cli.no_port": (
        "La página no se puede abrir en {host}, puerto {port}: está ocupado o no es una dirección de este equipo. "
        "Elige otro con --port o --host.",
        "The page cannot be opened on {host}, port {port}: it is taken, or no address of this machine. "
        "Choose another with --port or --host.",
    ),
    "cli.cannot_import": (
        "Falta una biblioteca o no funciona ({reason}). «python -m instantid check» dice cuál y qué hacer.",
        "A library is missing or does not work ({reason}). “python -m instantid check” says which and what to do.",
    ),
    "cli.interrupted": ("Interrumpido.", "Interrupted."),
    "cli.stage_download": ("⬇️ Descargando (MB)", "⬇️ Downloading (MB)"),
    "cli.stage_faces": ("🙂 Caras", "🙂 Faces"),
    "cli.stage_text": ("📝 Texto", "📝 Text"),
    "cli.stage_denoising": ("🎨 Generando", "🎨 Generating"),
    "cli.stage_decoding": ("🖼️ Decodificando", "🖼️ Decoding"),
    "cli.stage_done": ("✅ Listo", "✅ Done"),
}
