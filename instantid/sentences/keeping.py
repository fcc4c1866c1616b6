"""Sentences about the folder that outlives a session: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "keeping.new": (
        "💾 Pesos, imágenes y ajustes se guardan en {folder}",
        "💾 Weights, pictures and settings are kept in {folder}",
    ),
    "keeping.found": (
        "💾 Pesos, imágenes y ajustes se guardan en {folder}; ya había: {found}",
        "💾 Weights, pictures and settings are kept in {folder}; found there: {found}",
    ),
    "keeping.weights_whole": ("pesos completos ({size})", "whole weights ({size})"),
    "keeping.weights_partly": (
        "pesos a medias ({size}), la descarga sigue donde quedó",
        "part of the weights ({size}), the download goes on where it stopped",
    ),
    "keeping.pictures": ("imágenes: {count}", "pictures: {count}"),
    "keeping.settings": ("tus ajustes", "your settings"),
    # What goes wrong
    "keeping.drive_not_mounted": (
        "«{folder}» está en Google Drive, y Drive no está montado. Ejecuta otra vez la celda que lo monta y acepta el "
        "permiso que pide, o desmarca la opción de guardar en Drive.",
        "“{folder}” is on Google Drive, and Drive is not mounted. Run the cell that mounts it again and give the "
        "permission it asks for, or untick keeping things on Drive.",
    ),
    "keeping.not_a_folder": (
        "«{folder}» no puede ser una carpeta: ahí, o más arriba en la ruta, hay un archivo. Elige otra ruta.",
        "“{folder}” cannot be a folder: there is a file there, or further up the path. Choose another path.",
    ),
    "keeping.full": (
        "No queda sitio en «{folder}» ({reason}). Libera espacio (en Drive, vacía también la papelera) o elige otra "
        "carpeta.",
        "There is no room left in “{folder}” ({reason}). Free some space (on Drive, empty the bin as well) or choose "
        "another folder.",
    ),
    "keeping.cannot_use": (
        "«{folder}» no se puede leer y escribir ({reason}). Elige una carpeta en la que puedas escribir; si es tu "
        "Drive, ejecuta otra vez la celda que lo monta.",
        "“{folder}” cannot be read and written ({reason}). Choose a folder that you may write to; if it is your Drive, "
        "run the cell that mounts it again.",
    ),
    "keeping.settings_unreadable": (
        "«{file}» no contiene ajustes que se puedan leer: la página empieza con los de siempre. La próxima generación "
        "lo escribe de nuevo.",
        "“{file}” holds no settings that can be read: the page begins with its usual ones. The next generation "
        "writes it anew.",
    ),
    "keeping.settings_unusable": (
        "Parte de «{file}» no se puede usar y empieza como siempre: {names}. La próxima generación lo escribe de "
        "nuevo.",
        "Part of “{file}” cannot be used and begins as usual: {names}. The next generation writes it anew.",
    ),
}
