"""Sentences about memory, plans and loading: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "plan.title": ("🧠 Plan de memoria:", "🧠 Memory plan:"),
    "plan.device": ("dispositivo", "device"),
    "plan.precision": ("precisión", "precision"),
    "plan.offload": ("descarga a la RAM", "offload to RAM"),
    "plan.speed": ("velocidad", "speed"),
    "plan.vae_precision": ("precisión del VAE", "VAE precision"),
    "plan.vae_slicing": ("VAE por imágenes", "VAE slicing"),
    "plan.vae_tiling": ("VAE por trozos", "VAE tiling"),
    "plan.attention_slicing": ("atención por trozos", "attention slicing"),
    "plan.memory_fraction": ("parte de la VRAM", "share of the VRAM"),
    "plan.on": ("sí", "on"),
    "plan.off": ("no", "off"),
    "plan.why_device": ("es lo que hay: {name}", "this is what there is: {name}"),
    "plan.why_asked": ("así lo pediste", "you asked for it"),
    "plan.storage": ("pesos en memoria", "weights in memory"),
    "plan.pinned": ("RAM fijada", "pinned RAM"),
    "plan.phase.text": ("texto", "text"),
    "plan.phase.denoising": ("dibujo", "denoising"),
    "plan.phase.decoding": ("decodificación", "decoding"),
    "plan.expected": (
        "  previsto, en GiB: VRAM {phases} · RAM {ram}",
        "  expected, in GiB: VRAM {phases} · RAM {ram}",
    ),
    "plan.expected_ram": ("  previsto: {ram} GiB de RAM", "  expected: {ram} GiB of RAM"),
    "plan.why_float16_cuda": (
        "la mitad de memoria, y la GPU calcula más deprisa",
        "half the memory, and the GPU computes faster",
    ),
    "plan.why_float32_cpu": (
        "los procesadores calculan mal y despacio en media precisión",
        "processors are slow in half precision",
    ),
    "plan.why_bfloat16_cpu": (
        "en float32 no cabe en la RAM; así ocupa la mitad, más despacio",
        "in float32 it does not fit the RAM; this takes half, more slowly",
    ),
    "plan.why_float32_mps": (
        "en Apple float16 da imágenes negras",
        "float16 gives black pictures on Apple",
    ),
    "plan.why_bfloat16_mps": (
        "en float32 no cabe en la memoria, y float16 da imágenes negras en Apple",
        "in float32 it does not fit the memory, and float16 gives black pictures on Apple",
    ),
    "plan.why_no_gpu_no_offload": ("no hay GPU de la que descargar", "there is no GPU to offload from"),
    "plan.why_none": (
        "todo cabe en la GPU: {vram} GiB de VRAM, hacen falta {needed}",
        "everything fits the GPU: {vram} GiB of VRAM, {needed} are needed",
    ),
    "plan.why_idle": (
        "{vram} GiB de VRAM no bastan para todo ({needed}): lo que no dibuja espera en la RAM",
        "{vram} GiB of VRAM are too few for everything ({needed}): what does not draw waits in RAM",
    ),
    "plan.why_sequential": (
        "{vram} GiB de VRAM no bastan de otro modo ({needed}): entra capa por capa, muy despacio",
        "{vram} GiB of VRAM are too few otherwise ({needed}): layer by layer, very slowly",
    ),
    "plan.why_least": (
        "de lo que cabe en la RAM, es lo que menos VRAM pide",
        "of what fits the RAM this asks for the least VRAM",
    ),
    "plan.why_stepped_down": (
        "la forma anterior pidió más memoria de la que hay",
        "the way before asked for more memory than there is",
    ),
    "plan.too_little_vram": (
        "⚠️ Este plan pide {needed} GiB de VRAM y solo puede usar {vram}: puede fallar. Cierra otros programas o pide "
        "imágenes más pequeñas.",
        "⚠️ This plan asks for {needed} GiB of VRAM and may use only {vram}: it can fail. Close other programs, or ask "
        "for smaller pictures.",
    ),
    "plan.too_little_ram": (
        "⚠️ Este plan pide {needed} GiB de RAM y hay {free} libres: el sistema puede cerrarlo sin avisar. Quita las "
        "opciones de memoria que pusiste o cierra otros programas.",
        "⚠️ This plan asks for {needed} GiB of RAM and {free} are free: the system may end it without a word. Leave "
        "out the memory options that you gave, or close other programs.",
    ),
    "plan.why_storage_full": ("sin redondear", "nothing is rounded"),
    "plan.why_storage_int8_unet": (
        "las capas grandes de la UNet se guardan en 8 bits y calculan en 16: cabe, y la imagen apenas cambia",
        "the UNet's large layers are kept in 8 bits and compute in 16: it fits, and the picture hardly changes",
    ),
    "plan.why_storage_int8": (
        "las capas grandes se guardan en 8 bits y calculan en 16: cabe, y la imagen apenas cambia",
        "the large layers are kept in 8 bits and compute in 16: it fits, and the picture hardly changes",
    ),
    "plan.why_storage_fp8": (
        "las capas lineales se guardan y se multiplican en 8 bits",
        "the linear layers are kept and multiplied in 8 bits",
    ),
    "plan.fp8_needs_card": (
        "Los productos en 8 bits («fp8») piden una tarjeta NVIDIA de capacidad {least} o más (Ada, Hopper), y aquí hay "
        "«{name}». Elige otro almacenamiento, o ninguno.",
        "Products in 8 bits (“fp8”) need an NVIDIA card of capability {least} or more (Ada, Hopper), and here is "
        "“{name}”. Choose another storage, or none.",
    ),
    "plan.why_pinned": (
        "hay RAM de sobra, y así la GPU lee más deprisa",
        "there is RAM to spare, and the GPU reads faster",
    ),
    "plan.why_not_pinned": (
        "con poca RAM, lo que espera puede quedarse en el disco",
        "with little RAM, what waits may stay on the disk",
    ),
    "plan.nothing_below": (
        "No queda ninguna forma de usar menos memoria. Pide una imagen más pequeña o cierra otros programas.",
        "There is no way left that uses less memory. Ask for a smaller picture, or close other programs.",
    ),
    "plan.no_ram": (
        "Hay {free} GiB de RAM libre y la forma más económica pide {needed}. Cierra otros programas, reinicia el "
        "runtime o usa una máquina con más RAM.",
        "{free} GiB of RAM are free and the most economical way needs {needed}. Close other programs, restart the "
        "runtime, or use a machine with more RAM.",
    ),
    "plan.why_graphs": (
        "los grafos de CUDA ahorran la espera por Python; caben",
        "CUDA graphs spare the waiting for Python; they fit",
    ),
    "plan.why_plain": ("los grafos de CUDA no caben", "there is no room for CUDA graphs"),
    "plan.why_plain_in_turn": (
        "los grafos de CUDA piden que la UNet y la IdentityNet no se muevan",
        "CUDA graphs need UNet and IdentityNet to stay in place",
    ),
    "plan.why_plain_without_cuda": ("los grafos son cosa de las tarjetas NVIDIA", "graphs are for NVIDIA cards"),
    "plan.why_vae_precision_same": ("este VAE no se desborda en ella", "this VAE does not overflow in it"),
    "plan.why_vae_precision_wider": (
        "este VAE se desborda en media precisión: imágenes negras",
        "this VAE overflows in half precision: black pictures",
    ),
    "plan.why_vae_slicing": (
        "decodifica las imágenes de una en una; no cuesta nada",
        "decodes one by one; costs nothing",
    ),
    "plan.why_vae_tiling": (
        "con poca memoria, las imágenes grandes se decodifican por trozos",
        "with little memory large pictures are decoded in tiles",
    ),
    "plan.why_no_vae_tiling": ("hay memoria para decodificar de una vez", "there is memory to decode at once"),
    "plan.why_attention_slicing_mps": ("en Apple ahorra mucha memoria", "saves much memory on Apple"),
    "plan.why_attention_slicing_off": (
        "la atención de PyTorch ya es económica",
        "PyTorch's attention is economical already",
    ),
    "plan.why_memory_fraction": (
        "el resto es para la pantalla y otros programas",
        "the rest is for the screen and others",
    ),
    "plan.no_such_device": (
        "Pediste el dispositivo «{asked}», pero aquí hay «{found}». Elige ese o ninguno.",
        "You asked for the device “{asked}”, but there is “{found}”. Choose that or none.",
    ),
    "plan.graphs_need_gpu": (
        "La velocidad «{asked}» usa grafos de CUDA, que necesitan una GPU NVIDIA; en «{device}» no los hay. Quítala.",
        "The speed “{asked}” uses CUDA graphs, which need an NVIDIA GPU; there are none on “{device}”. Leave it out.",
    ),
    "plan.graphs_need_place": (
        "La velocidad «{asked}» necesita la UNet y la IdentityNet quietas en la GPU y la descarga «{offload}» las "
        "mueve. Usa una de estas descargas: {allowed}; o quita una de las dos opciones.",
        "The speed “{asked}” needs UNet and IdentityNet to stay on the GPU, and the offload “{offload}” moves them. "
        "Use one of these offloads: {allowed}; or leave one of the two options out.",
    ),
    "plan.offload_needs_gpu": (
        "La descarga «{asked}» mueve modelos entre la RAM y una GPU NVIDIA; en «{device}» no sirve. Quítala.",
        "The offload “{asked}” moves models between RAM and an NVIDIA GPU; on “{device}” it has no use. Leave it out.",
    ),
    "storage.no_fusing": (
        "Los pesos están en 8 bits y una LoRA no se puede fundir con ellos. Déjala cargada sin fundir, o carga los "
        'modelos con storage="full".',
        "The weights are kept in 8 bits and a LoRA cannot be fused into them. Leave it loaded without fusing, or load "
        'the models with storage="full".',
    ),
    "memory.line": (
        "📊 {stage}: RAM {ram_used} GiB usada, {ram_free} libre · VRAM {vram_used} GiB usada, {vram_free} libre",
        "📊 {stage}: RAM {ram_used} GiB used, {ram_free} free · VRAM {vram_used} GiB used, {vram_free} free",
    ),
    "memory.line_ram": (
        "📊 {stage}: RAM {ram_used} GiB usada, {ram_free} libre",
        "📊 {stage}: RAM {ram_used} GiB used, {ram_free} free",
    ),
    "memory.low": (
        "⚠️ Memoria baja. Considera reiniciar el runtime.",
        "⚠️ Memory is low. Consider restarting the runtime.",
    ),
    "memory.low_advice": ("💡 Runtime → Restart runtime", "💡 Runtime → Restart runtime"),
    "stage.start": ("Al empezar", "At the start"),
    "stage.faces": ("Análisis de caras cargado", "Face analysis loaded"),
    "stage.identitynet": ("IdentityNet cargada", "IdentityNet loaded"),
    "stage.base": ("Modelo base cargado", "Base model loaded"),
    "stage.adapter": ("Adaptador de identidad cargado", "Identity adapter loaded"),
    "stage.ready": ("Listo", "Ready"),
    "loading.faces_on": ("🙂 Análisis de caras en {provider}", "🙂 Face analysis on {provider}"),
    "loading.description": ("📦 {description}", "📦 {description}"),
    "loading.no_network": (
        "⚠️ Sin red no se pueden descargar los pesos publicados: se usa el modelo de demostración, que dibuja caras "
        "inventadas.",
        "⚠️ Without a network the published weights cannot be downloaded: the demo model is used, which draws invented "
        "faces.",
    ),
    "loading.ready": ("✅ Modelos listos en {seconds} s", "✅ Models ready in {seconds} s"),
    "loading.about": ("{description} · {device} · {precision}", "{description} · {device} · {precision}"),
    "loading.out_of_memory": (
        "La memoria de «{device}» no alcanza para cargar los modelos ({detail}), ni de la forma más económica que hay "
        "aquí. Cierra otros programas, reinicia el runtime o quita las opciones de memoria que pusiste.",
        "The memory of “{device}” is too small to load the models ({detail}), even in the most economical way that "
        "there is here. Close other programs, restart the runtime, or leave out the memory options that you gave.",
    ),
    "loading.stepped_down": (
        "⚠️ La memoria no alcanzó para este plan: se carga con el siguiente.",
        "⚠️ Memory was too small for this plan: loading by the next one.",
    ),
    "loading.no_description": (
        "Para {file} faltan las configuraciones y los tokenizadores (carpeta base_config). Descárgalos con "
        "«python -m instantid download --base {file}» o copia ahí los de un modelo SDXL.",
        "The configs and tokenizers for {file} are missing (folder base_config). Fetch them with "
        "“python -m instantid download --base {file}”, or copy those of an SDXL model there.",
    ),
    "loading.lora_failed": (
        "La LoRA «{what}» no se pudo cargar en este modelo base ({detail}). Las LoRA de pocos pasos son para bases "
        "SDXL: no elijas ninguna, o borra el archivo si se descargó mal.",
        "The LoRA “{what}” could not be loaded into this base model ({detail}). LoRAs for few steps are for SDXL "
        "bases: choose none, or delete the file if its download went wrong.",
    ),
    "loading.failed": (
        "No se pudo cargar {what} ({detail}). Borra esa carpeta y descárgala otra vez.",
        "{what} could not be loaded ({detail}). Delete that folder and download it again.",
    ),
}
