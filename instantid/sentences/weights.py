"""Sentences about bundles, downloads and their licences: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    # A bundle on disk
    "weights.no_folder": (
        "No existe la carpeta «{folder}». Comprueba la ruta o descarga los pesos primero.",
        "The folder “{folder}” does not exist. Check the path, or download the weights first.",
    ),
    "weights.missing": (
        "Falta «{file}». Cópialo ahí o vuelve a descargar los pesos: lo que ya está no se descarga dos veces.",
        "“{file}” is missing. Copy it there or download the weights again: what is there is not fetched twice.",
    ),
    "weights.empty": (
        "«{file}» está vacío (0 bytes). Bórralo y vuelve a descargarlo.",
        "“{file}” is empty (0 bytes). Delete it and download it again.",
    ),
    "weights.html": (
        "«{file}» ({size}) es una página web, no un archivo de pesos: se guardó la página en lugar del archivo. "
        "Bórralo y descárgalo con el botón o enlace de descarga directa.",
        "“{file}” ({size}) is a web page, not weights: the page was saved instead of the file. "
        "Delete it and fetch it with the direct download button or link.",
    ),
    "weights.pointer": (
        "«{file}» ({size}) es un puntero de git-lfs, no los pesos. Ejecuta «git lfs pull» en esa carpeta o borra el "
        "archivo y vuelve a descargarlo.",
        "“{file}” ({size}) is a git-lfs pointer, not the weights. Run “git lfs pull” in that folder, or delete the "
        "file and download it again.",
    ),
    "weights.damaged": (
        "«{file}» ({size}) está cortado o dañado: {reason}. Bórralo y vuelve a descargarlo.",
        "“{file}” ({size}) is cut short or damaged: {reason}. Delete it and download it again.",
    ),
    "weights.bad_json": (
        "«{file}» ({size}) no es un JSON válido: {reason}. Bórralo y vuelve a descargarlo.",
        "“{file}” ({size}) is not valid JSON: {reason}. Delete it and download it again.",
    ),
    "weights.which_base": (
        "En «{folder}» hay varios modelos base ({bases}). Di cuál usar.",
        "There are several base models in “{folder}” ({bases}). Say which one to use.",
    ),
    "weights.not_sdxl": (
        "«{file}» describe «{found}», que no es un modelo SDXL completo. InstantID necesita un modelo base SDXL.",
        "“{file}” describes “{found}”, which is not a whole SDXL model. InstantID needs an SDXL base model.",
    ),
    "weights.no_safetensors": (
        "En «{folder}» no hay pesos .safetensors (hay: {found}). Los formatos .bin y .ckpt pueden ejecutar código al "
        "abrirse y no se usan: busca la versión .safetensors.",
        "There are no .safetensors weights in “{folder}” (found: {found}). The formats .bin and .ckpt can run code "
        "when opened and are not used: look for the .safetensors version.",
    ),
    "weights.no_face_models": (
        "En «{folder}» no están los modelos de caras (hay: {found}). Hacen falta {needed}: cópialos ahí, o el .zip "
        "de antelopev2 sin descomprimir.",
        "The face models are not in “{folder}” (found: {found}). {needed} are needed: copy them there, or the "
        "antelopev2 .zip as it is.",
    ),
    # Naming a base model
    "weights.unknown_base": (
        "No conozco el modelo base «{text}». Escribe uno de la lista ({known}), un repositorio «autor/nombre» del "
        "Hub, una carpeta de diffusers o un archivo .safetensors. ¿Querías decir {near}?",
        "I do not know the base model “{text}”. Write one of the list ({known}), a hub repository “owner/name”, "
        "a diffusers folder or a .safetensors file. Did you mean {near}?",
    ),
    "weights.base_not_found": (
        "No existe el modelo base «{path}». Comprueba la ruta.",
        "The base model “{path}” does not exist. Check the path.",
    ),
    "weights.base_not_usable": (
        "«{path}» no es un modelo base utilizable: hace falta una carpeta de diffusers (con model_index.json) o un "
        "único archivo .safetensors.",
        "“{path}” is not a usable base model: a diffusers folder (with model_index.json) or one .safetensors file "
        "is needed.",
    ),
    "weights.repo_not_sdxl": (
        "El repositorio {repo} no es un modelo SDXL completo: le falta {missing}. Elige un modelo base SDXL en "
        "formato diffusers o uno de sus archivos .safetensors («{repo}/archivo.safetensors»).",
        "The repository {repo} is not a whole SDXL model: {missing} is missing. Choose an SDXL base model in "
        "diffusers format, or one of its .safetensors files (“{repo}/file.safetensors”).",
    ),
    "weights.repo_no_safetensors": (
        "El repositorio {repo} no tiene pesos .safetensors de «{component}»; los formatos .bin y .ckpt pueden "
        "ejecutar código y no se usan. Elige otro modelo base.",
        "The repository {repo} has no .safetensors weights of “{component}”; the formats .bin and .ckpt can run code "
        "and are not used. Choose another base model.",
    ),
    # Downloading
    "weights.repo_not_found": (
        "El repositorio {repo} no existe, cambió de nombre o es privado, o el token no vale. Comprueba el nombre; si "
        "es privado, da un token con acceso (HF_TOKEN).",
        "The repository {repo} does not exist, was renamed or is private, or the token is not valid. Check the name; "
        "if it is private, give a token that may read it (HF_TOKEN).",
    ),
    "weights.file_not_found": (
        "El repositorio {repo} ya no tiene el archivo «{file}». Puede que lo hayan movido: actualiza este programa o "
        "elige otro modelo base.",
        "The repository {repo} no longer has the file “{file}”. It may have moved: update this program or choose "
        "another base model.",
    ),
    "weights.gated": (
        "El repositorio {repo} pide permiso para descargar «{file}». Acepta sus condiciones en "
        "https://huggingface.co/{repo} y da un token de lectura (HF_TOKEN).",
        "The repository {repo} asks for permission to download “{file}”. Accept its terms at "
        "https://huggingface.co/{repo} and give a read token (HF_TOKEN).",
    ),
    "weights.server": (
        "El servidor respondió {status} al pedir «{file}» de {repo}. Espera unos minutos y repite: lo descargado se "
        "conserva.",
        "The server answered {status} when asked for “{file}” of {repo}. Wait a few minutes and repeat: what was "
        "downloaded is kept.",
    ),
    "weights.network": (
        "Se cortó la red, o no hay, al pedir «{file}» de {repo} ({reason}). Comprueba la conexión y repite: la "
        "descarga sigue donde quedó.",
        "The network failed, or there is none, while asking for “{file}” of {repo} ({reason}). Check the connection "
        "and repeat: the download goes on where it stopped.",
    ),
    "weights.corrupted": (
        "«{file}» de {repo} llegó dañado y se ha borrado. Repite la descarga.",
        "“{file}” of {repo} arrived damaged and was deleted. Repeat the download.",
    ),
    "weights.does_not_fit": (
        "Faltan por descargar {needed} y en «{folder}» solo hay {free} libres. Libera espacio o elige otra carpeta; "
        "si es tu Drive, vacía su papelera o desmarca la opción de guardar en Drive.",
        "{needed} remain to be downloaded and “{folder}” has only {free} free. Free some space or choose another "
        "folder; if it is your Drive, empty its bin or untick keeping things on Drive.",
    ),
    "weights.disk_full": (
        "El disco se llenó al guardar «{file}» de {repo}. Libera espacio y repite: la descarga sigue donde quedó.",
        "The disk became full while saving “{file}” of {repo}. Free some space and repeat: the download goes on "
        "where it stopped.",
    ),
    "weights.cannot_write": (
        "No se puede escribir «{file}» en el disco ({reason}). Elige una carpeta en la que puedas escribir.",
        "“{file}” cannot be written to the disk ({reason}). Choose a folder that you may write to.",
    ),
    "weights.busy": (
        "Otra descarga está usando «{folder}». Espera a que termine.",
        "Another download is using “{folder}”. Wait until it ends.",
    ),
    "weights.random_bundle_folder_taken": (
        "«{folder}» ya contiene otra cosa y no se ha tocado; los pesos al azar necesitan una carpeta vacía o nueva. "
        "Elige otra.",
        "“{folder}” already holds something else and was left alone; random weights need an empty or new folder. "
        "Choose another.",
    ),
    "weights.announce_size": (
        "Descarga: {remaining} de un total de {total}, en {folder} ({free} libres).",
        "Download: {remaining} of {total} in all, into {folder} ({free} free).",
    ),
    "weights.announce_licence": ("Licencia de {repo}: {licence}", "Licence of {repo}: {licence}"),
    "weights.licence_research": (
        "solo para investigación no comercial",
        "non-commercial research only",
    ),
    "weights.licence_on_page": (
        "la que indica su página, https://huggingface.co/{repo}",
        "as stated on its page, https://huggingface.co/{repo}",
    ),
    "weights.progress": ("{done} de {total} ({percent} %)", "{done} of {total} ({percent} %)"),
}
