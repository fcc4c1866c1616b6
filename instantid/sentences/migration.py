"""Sentences of the repair of old notebooks: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "cli.migrate": (
        "repara un cuaderno antiguo de InstantID en una copia y dice qué ha cambiado",
        "repair an old InstantID notebook in a copy and say what was changed",
    ),
    "cli.migrate_notebook": ("el cuaderno antiguo (.ipynb)", "the old notebook (.ipynb)"),
    "cli.migrate_output": (
        "dónde escribir el arreglado; si no se da, NOMBRE.migrated.ipynb junto al antiguo",
        "where to write the repaired one; if not given, NAME.migrated.ipynb beside the old one",
    ),
    "cli.dry_run": ("solo dice qué cambiaría", "only say what would change"),
    "migration.changes": ("✅ Arreglado ({count}):", "✅ Repaired ({count}):"),
    "migration.left_alone": ("⚠️ Visto y sin tocar ({count}):", "⚠️ Seen and left alone ({count}):"),
    "migration.cell": ("   Celda {number} · {title}", "   Cell {number} · {title}"),
    "migration.removed": ("se quita", "taken out"),
    "migration.nothing": (
        "✅ En {file} no hay nada que arreglar; no se escribe ningún archivo.",
        "✅ There is nothing to repair in {file}; no file is written.",
    ),
    "migration.not_ours": (
        "{file} no es un cuaderno de InstantID: su código no lo nombra. Se deja como está y no se escribe nada.",
        "{file} is no InstantID notebook: its code does not name it. It is left as it is and nothing is written.",
    ),
    "migration.written": (
        "💾 El cuaderno arreglado está en {file}; el original no ha cambiado.",
        "💾 The repaired notebook is {file}; the original has not changed.",
    ),
    "migration.dry_run": (
        "🔎 Solo era un ensayo: no se ha escrito nada. Sin --dry-run se escribiría {file}.",
        "🔎 This was a dry run: nothing was written. Without --dry-run {file} would be.",
    ),
    # Why something was changed.
    "migration.torch": (
        "PyTorch no se reinstala: se usa el que ya está instalado",
        "PyTorch is not reinstalled: the installed one is used",
    ),
    "migration.xformers": (
        "sin xformers: trae otro PyTorch consigo, y la atención de PyTorch hace lo mismo",
        "no xformers: it brings another PyTorch along, and PyTorch's own attention does the same",
    ),
    "migration.numpy": (
        "NumPy se queda como está: las demás bibliotecas están compiladas para él",
        "NumPy stays as it is: the other libraries are built against it",
    ),
    "migration.kept": (
        "no se desinstala lo que ninguna celda vuelve a instalar",
        "what no cell installs again is not uninstalled",
    ),
    "migration.onnxruntime": (
        "basta onnxruntime-gpu: instalados a la vez se pisan los archivos",
        "onnxruntime-gpu is enough: installed together they overwrite each other's files",
    ),
    "migration.range": (
        "un rango en lugar de una versión fija",
        "a range instead of one fixed version",
    ),
    "migration.quoted": (
        "sin comillas, el shell toma lo que sigue a > o < por un archivo",
        "without quotes the shell takes what follows > or < for a file",
    ),
    "migration.check": (
        "la comprobación nueva mira rangos y dice cómo arreglar lo que falla",
        "the new check looks at ranges and says how to mend what fails",
    ),
    "migration.function": (
        "se define una vez, más abajo",
        "defined once, further down",
    ),
    "migration.heads": (
        "dim tiene que ser divisible por heads",
        "dim must be divisible by heads",
    ),
    "migration.import": ("la biblioteca lo ha cambiado de sitio o de nombre", "the library has moved or renamed it"),
    "migration.vae": ("ahora es un método del VAE", "it is a method of the VAE now"),
    "migration.option": (
        "las versiones nuevas no aceptan esa opción, que ya no hacía nada",
        "new versions refuse this option, which no longer did anything",
    ),
    "migration.gradio": ("gradio 4 y posteriores lo escriben así", "gradio 4 and newer write it so"),
    "migration.version_module": (
        "pkg_resources ya no viene con setuptools; importlib.metadata es de Python",
        "pkg_resources no longer comes with setuptools; importlib.metadata is Python's own",
    ),
    # Why something was left alone.
    "migration.unparsed": (
        "esta celda no es Python válido: revísala a mano",
        "this cell is no valid Python: look at it yourself",
    ),
    "migration.unknown_pin": (
        "requirements.txt no nombra este paquete; quita la versión fija si pip protesta",
        "requirements.txt does not name this package; drop the fixed version if pip complains",
    ),
    "migration.requirements_file": (
        "el archivo está fuera del cuaderno: quita de él torch y las versiones fijas",
        "the file is outside the notebook: take torch and fixed versions out of it",
    ),
    "migration.built_command": (
        "la orden se compone al ejecutarse: quita torch y las versiones fijas a mano",
        "the command is put together when it runs: take out torch and fixed versions yourself",
    ),
    "migration.cloned": (
        "el código original no se importa con diffusers nuevo: si es ese, clona este proyecto en su lugar",
        "the original code cannot be imported with new diffusers: if this is it, clone this project in its place",
    ),
    "migration.pins_elsewhere": (
        "versiones fijas en un texto: cámbialas si ese texto acaba en una instalación",
        "fixed versions in a text: change them if that text ends in an installation",
    ),
    "migration.check_unclear": (
        "mira versiones fijas, pero hace algo más o el resto lo necesita: revísalo a mano",
        "looks at fixed versions, but does more or is needed by the rest: look at it yourself",
    ),
    "migration.function_used": (
        "se define más de una vez, y la primera se usa antes de la segunda",
        "defined more than once, and the first is used before the second",
    ),
    "migration.heads_unknown": (
        "no se sabe qué cabezas convienen: heads tiene que dividir a dim",
        "which heads fit cannot be told: heads must divide dim",
    ),
    "migration.import_gone": (
        "ya no existe y nada lo sustituye tal cual: hay que reescribir lo que lo usa",
        "it is gone and nothing takes its place as it is: what uses it has to be rewritten",
    ),
    "migration.pkg_resources": (
        "pkg_resources ya no viene con setuptools: usa importlib.metadata y packaging",
        "pkg_resources no longer comes with setuptools: use importlib.metadata and packaging",
    ),
    # What cannot be repaired at all.
    "migration.no_file": (
        "No existe «{file}». Da la ruta de un cuaderno (.ipynb).",
        "“{file}” does not exist. Give the path of a notebook (.ipynb).",
    ),
    "migration.folder": (
        "«{file}» es una carpeta. Da la ruta de un cuaderno (.ipynb).",
        "“{file}” is a folder. Give the path of a notebook (.ipynb).",
    ),
    "migration.too_large": (
        "«{file}» ocupa {megabytes:.0f} MB, y un cuaderno se lee hasta {most} MB. Borra sus resultados en Jupyter o en "
        "Colab (Editar → Borrar todos los resultados), guárdalo y vuelve a probar.",
        "“{file}” has {megabytes:.0f} MB, and a notebook is read up to {most} MB. Clear its outputs in Jupyter or in "
        "Colab (Edit → Clear all outputs), save it and try again.",
    ),
    "migration.unreadable": (
        "«{file}» no se puede leer ({reason}). Mira sus permisos o cópialo a otro sitio.",
        "“{file}” cannot be read ({reason}). Look at its permissions, or copy it elsewhere.",
    ),
    "migration.no_json": (
        "«{file}» no es un cuaderno: un .ipynb es texto JSON, y este archivo es otra cosa o está cortado. "
        "Descárgalo otra vez.",
        "“{file}” is no notebook: an .ipynb is JSON text, and this file is something else or cut short. "
        "Download it again.",
    ),
    "migration.no_notebook": (
        "«{file}» es JSON, pero no un cuaderno: le faltan las celdas. Da la ruta de un .ipynb de Jupyter o de Colab.",
        "“{file}” is JSON but no notebook: it has no cells. Give the path of an .ipynb of Jupyter or Colab.",
    ),
    "migration.old_format": (
        "«{file}» está en el formato {version} de Jupyter, y hace falta el 4. Ábrelo en Jupyter y guárdalo, o ejecuta "
        "jupyter nbconvert --to notebook.",
        "“{file}” is in Jupyter's format {version}, and 4 is needed. Open it in Jupyter and save it, or run "
        "jupyter nbconvert --to notebook.",
    ),
    "migration.target_exists": (
        "«{file}» ya existe y no se sobrescribe. Bórralo, o da otro nombre con --output.",
        "“{file}” exists already and is not written over. Delete it, or give another name with --output.",
    ),
    "migration.target_is_source": (
        "«{file}» es el cuaderno antiguo, y ese no se cambia. Da otro nombre con --output, o no des ninguno.",
        "“{file}” is the old notebook, which is never changed. Give another name with --output, or none.",
    ),
    "migration.not_written": (
        "«{file}» no se puede escribir ({reason}). Da otro sitio con --output, o haz sitio en el disco.",
        "“{file}” cannot be written ({reason}). Give another place with --output, or make room on the disk.",
    ),
}
