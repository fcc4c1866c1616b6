"""Sentences about the drawn people that the small bundle is trained on: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "face_world.indices": (
        "Los números de personas y escenas deben ser una lista de enteros con al menos uno; llegó {kind} de forma "
        "{shape}. Usa, por ejemplo, range(8).",
        "The numbers of people and scenes must be a list of whole numbers with at least one; {kind} of shape {shape} "
        "was given. Use range(8), for example.",
    ),
    "face_world.index": (
        "El número {index} no sirve: los números de personas y escenas van de 0 a {most}.",
        "Number {index} cannot be used: those of people and scenes go from 0 to {most}.",
    ),
    "face_world.people_shape": (
        "Llegaron personas de forma {shape}; se necesita (n, {traits}). Créalas con people().",
        "People of shape {shape} were given; (n, {traits}) is needed. Make them with people().",
    ),
    "face_world.people_range": (
        "Un rasgo vale {value}; los rasgos van de 0 a 1. Recórtalos antes de dibujar.",
        "A trait is {value}; traits go from 0 to 1. Clamp them before drawing.",
    ),
    "face_world.size": (
        "El tamaño {size} no sirve: debe ser un entero de {least} a {most} píxeles.",
        "Size {size} cannot be used: it must be a whole number of pixels from {least} to {most}.",
    ),
    "face_world.counts": (
        "Llegaron {persons} personas y {scenes} escenas; hace falta una escena por persona.",
        "{persons} people and {scenes} scenes were given; one scene per person is needed.",
    ),
    "face_world.range": (
        "{field} vale {value} en una escena; debe estar entre {least} y {most}.",
        "{field} is {value} in a scene; it must be from {least} to {most}.",
    ),
    "face_world.choice": (
        "{field} vale {value} en una escena; va de 0 a {most}: {names}.",
        "{field} is {value} in a scene; it goes from 0 to {most}: {names}.",
    ),
}
