"""Sentences about memory, plans and loading: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "plan.title": ("🧠 Plan de memoria:", "🧠 Memory plan:"),
    "plan.device": ("dispositivo", "device"),
    "plan.precision": ("precisión", "precision"),
    "plan.offload": ("descarga a la RAM", "offload to RAM"),
    "plan.vae_slicing": ("VAE por imágenes", "VAE slicing"),
    "plan.vae_tiling": ("VAE por trozos", "VAE tiling"),
    "plan.attention_slicing": ("atención por trozos", "attention slicing"),
    "plan.memory_fraction": ("parte de la VRAM", "share of the VRAM"),
    "plan.on": ("sí", "on"),
    "plan.off": ("no", "off"),
    "plan.why_device": ("es lo que hay: {name}", "this is what there is: {name}"),
    "plan.why_asked": ("así lo pediste", "you asked for it"),
    "plan.why_float16": (
        "la mitad de memoria, y la GPU calcula más deprisa",
        "half the memory, and the GPU computes faster",
    ),
    "plan.why_float32_cpu": (
        "los procesadores calculan mal y despacio en media precisión",
        "processors are slow in half precision",
    ),
    "plan.why_float32_mps": (
        "en Apple la media precisión da imágenes negras",
        "half precision gives black pictures on Apple",
    ),
    "plan.why_no_gpu_no_offload": ("no hay GPU de la que descargar", "there is no GPU to offload from"),
    "plan.why_resident": (
        "todo cabe en la GPU: {vram} GiB de VRAM, hacen falta {needed}",
        "everything fits the GPU: {vram} GiB of VRAM, {needed} are needed",
    ),
    "plan.why_no_room_in_ram": (
        "solo hay {ram} GiB de RAM libre y descargar modelos pediría {needed}: mejor llenar la GPU",
        "only {ram} GiB of RAM are free and offloading would need {needed}: better to fill the GPU",
    ),
    "plan.why_model_offload": (
        "{vram} GiB de VRAM no bastan para todo ({needed}): cada modelo entra cuando le toca",
        "{vram} GiB of VRAM are too few for everything ({needed}): each model comes in when it is its turn",
    ),
    "plan.why_sequential_offload": (
        "{vram} GiB de VRAM no bastan ni para el modelo mayor ({needed}): entra capa por capa, despacio",
        "{vram} GiB of VRAM are too few even for the largest model ({needed}): layer by layer, slowly",
    ),
    "plan.why_vae_slicing": (
        "decodifica las imágenes de una en una; no cuesta nada",
        "decodes one by one; costs nothing",
    ),
    "plan.why_vae_tiling": (
        "con poca VRAM, las imágenes grandes se decodifican por trozos",
        "with little VRAM large pictures are decoded in tiles",
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
    "plan.offload_needs_gpu": (
        "La descarga «{asked}» mueve modelos entre la RAM y una GPU NVIDIA; en «{device}» no sirve. Quítala.",
        "The offload “{asked}” moves models between RAM and an NVIDIA GPU; on “{device}” it has no use. Leave it out.",
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
    "loading.ready": ("✅ Modelos listos en {seconds} s", "✅ Models ready in {seconds} s"),
    "loading.about": ("{description} · {device} · {precision}", "{description} · {device} · {precision}"),
    "loading.out_of_memory": (
        "La memoria de «{device}» no alcanza para cargar los modelos ({detail}). Cierra otros programas o reinicia el "
        'runtime; si se repite, carga con offload="model" u offload="sequential".',
        "The memory of “{device}” is too small to load the models ({detail}). Close other programs or restart the "
        'runtime; if it happens again, load with offload="model" or offload="sequential".',
    ),
    "loading.no_description": (
        "Para {file} faltan las configuraciones y los tokenizadores (carpeta base_config). Descárgalos con "
        "«python -m instantid download --base {file}» o copia ahí los de un modelo SDXL.",
        "The configs and tokenizers for {file} are missing (folder base_config). Fetch them with "
        "“python -m instantid download --base {file}”, or copy those of an SDXL model there.",
    ),
    "loading.failed": (
        "No se pudo cargar {what} ({detail}). Borra esa carpeta y descárgala otra vez.",
        "{what} could not be loaded ({detail}). Delete that folder and download it again.",
    ),
}
