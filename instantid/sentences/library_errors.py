"""Spanish for the errors that `ip_adapter` and the pipeline file raise in English: error code -> Spanish."""

SPANISH_LIBRARY_ERRORS: dict[str, str] = {
    # The adapter file
    "adapter.missing": ("No hay ningún adaptador en {path}. Da la ruta de ip-adapter.bin o de ip-adapter.safetensors."),
    "adapter.empty": "{path} está vacío: la descarga salió mal. Bórralo y descárgalo otra vez.",
    "adapter.web_page": (
        "{path} ({size} bytes) es una página web, no pesos: la descarga salió mal. Bórralo y descárgalo otra vez."
    ),
    "adapter.pointer": (
        "{path} ({size} bytes) es un puntero de Git LFS, no pesos. Ejecuta «git lfs pull» o descárgalo otra vez."
    ),
    "adapter.truncated": (
        "{path} ({size} bytes) está dañado o cortado y no se puede leer. Bórralo y descárgalo otra vez."
    ),
    "adapter.unsafe": (
        "{path} no es una simple tabla de pesos y no se ha abierto, porque podría ejecutar código. Usa el "
        "ip-adapter.bin del repositorio de InstantID."
    ),
    "adapter.other_kind": (
        "{path} no es un adaptador de InstantID: tiene que contener un Resampler (image_proj.latents …) y capas de "
        "identidad (ip_adapter.1.to_k_ip.weight …). Usa el ip-adapter.bin del repositorio de InstantID."
    ),
    "adapter.wrong_layers": (
        "{path} no encaja en este modelo base: faltan {missing_count} capas de identidad ({missing}) y sobran "
        "{unexpected_count} ({unexpected}). InstantID necesita un modelo base SDXL y su propio ip-adapter.bin."
    ),
    "adapter.wrong_width": (
        "La capa {index}.{key} de {path} mide {received} y los tokens tienen {tokens} números, pero este modelo base "
        "necesita {needed}: el adaptador se hizo para otra clase de modelo. InstantID necesita un modelo base SDXL."
    ),
    "adapter.argument_mismatch": (
        "Se pasó {name}={asked}, pero {path} tiene {found}. No pases {name}: se lee del archivo."
    ),
    # Its Resampler
    "adapter.resampler_incomplete": (
        "El Resampler de {path} está incompleto ({detail}). Borra el archivo y descárgalo otra vez."
    ),
    "adapter.heads_do_not_fit": (
        "{heads} cabezas de ancho {dim_head} hacen {product}, pero el Resampler de {path} mide {inner} de ancho. No "
        "pases heads ni dim_head y se leerá como lo hicieron sus autores."
    ),
    "adapter.heads_unknown": (
        "El Resampler de {path} mide {inner} de ancho, que no es múltiplo de {rule}, y el archivo no dice cuántas "
        "cabezas tiene. Pasa heads=… con el número de su entrenamiento."
    ),
    "resampler.heads": "dim ({dim}) tiene que ser divisible por heads ({heads}): usa {nearest} cabezas",
    # What a call is given
    "identity.no_embedding": (
        "Falta image_embeds: pasa el embedding de la cara, de forma ({width},), que está en face.embedding."
    ),
    "identity.embedding_shape": (
        "image_embeds tiene forma {shape}; hace falta ({width},) o ({prompts}, {width}), una cara por descripción. "
        "Si son varias fotos de una persona, pasa la media de sus embeddings."
    ),
    "identity.embedding_not_finite": (
        "image_embeds contiene números que no son finitos. Analiza otra vez la foto de la cara."
    ),
    "identity.mask_shape": (
        "control_mask tiene forma {shape}; hace falta una imagen, (alto, ancho) o (alto, ancho, 3)."
    ),
    "key_points.shape": (
        "Los puntos clave tienen que ser cinco parejas (x, y) finitas, de forma (5, 2); se recibió la forma {shape}. "
        "Usa face.kps."
    ),
    # The pipeline's state
    "identity.batch": (
        "La UNet recibió {batch} latentes, pero esta llamada trae identidades para {n} imágenes: pasa un embedding de "
        "cara, o uno por descripción."
    ),
    "identity.no_adapter": (
        "No hay ningún adaptador de InstantID cargado. Llama antes a load_ip_adapter_instantid(path)."
    ),
    "identity.unloaded": (
        "El adaptador de InstantID ya no está: lo quitó {call}. Llama otra vez a load_ip_adapter_instantid(path)."
    ),
    "identity.removed": (
        "Se quitó la identidad de {count} de las {total} capas de atención cruzada: en su lugar está {kind}, que puso "
        "{call}. Llama a restore_identity() para recuperar la cara."
    ),
    "identity.other_unet": (
        "pipe.unet se cambió después de cargar el adaptador, así que las capas de identidad no son suyas. Llama otra "
        "vez a load_ip_adapter_instantid(path)."
    ),
    "graphs.no_cuda": (
        "Los grafos de CUDA necesitan la UNet y la IdentityNet en una GPU de NVIDIA, pero la UNet está en {device}. "
        "Llama antes a pipe.to('cuda'), o prescinde de ellos."
    ),
    "guidance.inpaint": (
        "La guía no puede terminar antes al rellenar (inpaint): el pipeline guarda su máscara en dos mitades. Quita "
        "guidance_end."
    ),
    "identity.busy": "Este pipeline ya está generando. Espera a que termine o usa otro pipeline.",
}
