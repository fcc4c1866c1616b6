"""Sentences about the small bundle's own face models and their training: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "face_pack.weights": (
        "«{file}» no contiene los pesos de {network} ({reason}). Entrénalos con python -m training.face_pack.",
        "“{file}” does not hold the weights of {network} ({reason}). Train them with python -m training.face_pack.",
    ),
    "face_pack.other_network": (
        "«{file}» es de otra red ({reason}). Elige otra carpeta, o borra esa para empezar de nuevo.",
        "“{file}” is of another network ({reason}). Choose another folder, or delete that one to begin anew.",
    ),
    "face_pack.stage_failed": (
        "No han terminado: {names}; sus propias líneas, más arriba, dicen por qué. La misma orden continúa lo que hay "
        "en {folder}.",
        "These did not come to their end: {names}; their own lines above say why. The same command goes on with what "
        "is in {folder}.",
    ),
    "face_pack.no_onnx": (
        "onnx no está instalado: los pesos están en {folder}. En otra máquina: python -m training.face_pack.export "
        "--output {folder}",
        "onnx is not installed: the weights are in {folder}. On another machine: python -m training.face_pack.export "
        "--output {folder}",
    ),
}
