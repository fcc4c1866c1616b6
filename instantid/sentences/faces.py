"""Sentences about photos and faces: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "photo.other_type": (
        "La foto llegó como {kind}; tiene que ser un archivo, una imagen PIL o un array RGB.",
        "The photo came as {kind}; it must be a file, a PIL picture or an RGB array.",
    ),
    "photo.missing": (
        "No existe el archivo {path}. Comprueba la ruta o sube la foto otra vez.",
        "There is no file {path}. Check the path or upload the photo again.",
    ),
    "photo.file_too_large": (
        "La foto ocupa {megabytes} MB; el máximo es {most} MB. Guárdala como JPEG o redúcela.",
        "The photo has {megabytes} MB; the most is {most} MB. Save it as JPEG or make it smaller.",
    ),
    "photo.too_many_pixels": (
        "La foto mide {width} × {height} píxeles; el máximo es {most} millones. Redúcela y súbela otra vez.",
        "The photo has {width} × {height} pixels; the most is {most} million. Make it smaller and upload it again.",
    ),
    "photo.unreadable": (
        "«{name}» ({size} bytes) no se puede leer como imagen: está dañado o no es una foto. Usa JPEG, PNG o WebP.",
        "“{name}” ({size} bytes) cannot be read as a picture: it is damaged or no photo. Use JPEG, PNG or WebP.",
    ),
    "photo.array_shape": (
        "El array tiene forma {shape}; tiene que ser (alto, ancho), (alto, ancho, 3) o (alto, ancho, 4).",
        "The array has shape {shape}; it must be (height, width), (height, width, 3) or (height, width, 4).",
    ),
    "faces.none": (
        "No se encontró ninguna cara en la foto ({width} × {height}). Usa una foto de frente, bien iluminada y sin "
        "recortar la cabeza.",
        "No face was found in the photo ({width} × {height}). Use a frontal, well lit photo that shows the whole head.",
    ),
    "faces.no_such_index": (
        "Pediste la cara {index}, pero la foto tiene {count}: de la 0 (la más grande) a la {last}.",
        "You asked for face {index}, but the photo has {count}: from 0 (the largest) to {last}.",
    ),
    "faces.pack_unusable": (
        "Los modelos de caras de {folder} no se pueden abrir ({reason}). Borra la carpeta y descárgala otra vez.",
        "The face models in {folder} cannot be opened ({reason}). Delete the folder and download it again.",
    ),
    "faces.no_recogniser": (
        "En {folder} falta el reconocedor de caras (glintr100.onnx). Borra la carpeta y descárgala otra vez.",
        "The face recogniser (glintr100.onnx) is missing in {folder}. Delete the folder and download it again.",
    ),
    "faces.embedding_width": (
        "El reconocedor da {width} números por cara; InstantID necesita {needed}, los de antelopev2.",
        "The recogniser gives {width} numbers a face; InstantID needs {needed}, those of antelopev2.",
    ),
}
