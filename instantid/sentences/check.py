"""Sentences about what is installed, whether it works together, and its installation: key -> (Spanish, English)."""

SENTENCES: dict[str, tuple[str, str]] = {
    "check.title": ("🔍 Verificando instalación...", "🔍 Checking the installation..."),
    "check.versions": ("📋 Versiones básicas: {versions}", "📋 Basic versions: {versions}"),
    "check.absent": ("no instalado", "not installed"),
    "check.gpu": ("🎮 GPU detectada: {gpu}", "🎮 GPU detected: {gpu}"),
    "check.no_gpu": ("🎮 GPU detectada: ninguna ({reason})", "🎮 GPU detected: none ({reason})"),
    "check.no_gpu.no_card": ("esta máquina no tiene GPU NVIDIA", "this machine has no NVIDIA GPU"),
    "check.no_gpu.unseen": ("hay una {card}, pero PyTorch no la ve", "there is a {card}, but PyTorch does not see it"),
    "check.no_gpu.no_torch": ("falta PyTorch o no funciona", "PyTorch is missing or does not work"),
    "check.compatibility": ("🎯 Verificación de compatibilidad:", "🎯 Compatibility check:"),
    "check.fits": ("{name} {version} - Compatible", "{name} {version} - Compatible"),
    "check.newer": (
        "{name} {version} - Compatible, más nueva que la última probada ({tested})",
        "{name} {version} - Compatible, newer than the newest tested ({tested})",
    ),
    "check.missing": (
        "{name} - No está instalado; hace falta {needed}",
        "{name} - Not installed; {needed} is needed",
    ),
    "check.out_of_range": (
        "{name} {version} - No sirve; hace falta {needed}",
        "{name} {version} - Does not fit; {needed} is needed",
    ),
    "check.no_files": (
        "{name} {version} - Instalado a medias: faltan sus archivos; instálalo de nuevo",
        "{name} {version} - Half installed: its files are missing; install it again",
    ),
    "check.import_fails": (
        "{name} {version} - Instalado, pero no se puede importar ({error}); instálalo de nuevo",
        "{name} {version} - Installed, but it cannot be imported ({error}); install it again",
    ),
    "check.import_died": (
        "{name} {version} - Se cierra al importarlo (código {code}); instálalo de nuevo",
        "{name} {version} - Crashes while it is imported (code {code}); install it again",
    ),
    "check.import_need": (
        "{name} {version} - Instalado, pero no se puede importar ({error}); la causa es {culprit}",
        "{name} {version} - Installed, but it cannot be imported ({error}); the cause is {culprit}",
    ),
    "check.import_hung": (
        "{name} {version} - Sigue sin responder después de {seconds:.0f} s",
        "{name} {version} - Has not answered after {seconds:.0f} s",
    ),
    "check.opencv_screen": (
        "{name} {version} - Le faltan bibliotecas gráficas del sistema ({error}); sirve la variante sin pantalla",
        "{name} {version} - The system lacks graphics libraries for it ({error}); the headless flavour will do",
    ),
    "check.python_old": (
        "Python {version} - Demasiado antiguo; hace falta {needed} o posterior",
        "Python {version} - Too old; {needed} or newer is needed",
    ),
    "check.torch_old": (
        "PyTorch {version} - Demasiado antiguo; hace falta {needed}. No lo reinstales con pip",
        "PyTorch {version} - Too old; {needed} is needed. Do not reinstall it with pip",
    ),
    "check.torch_broken": (
        "PyTorch {version} - No funciona ({error}). No lo reinstales con pip",
        "PyTorch {version} - Does not work ({error}). Do not reinstall it with pip",
    ),
    "check.torchvision": (
        "torchvision {version} - No va con este PyTorch ({error}), y así tampoco funciona transformers. InstantID no "
        "lo necesita: quítalo",
        "torchvision {version} - Does not go with this PyTorch ({error}), which stops transformers too. InstantID does "
        "not need it: remove it",
    ),
    "check.cuda": ("{what} - PyTorch ve la GPU", "{what} - PyTorch sees the GPU"),
    "check.cuda.no_card": (
        "GPU - No hay: todo funciona en la CPU, pero muy despacio. En Colab elige una T4:",
        "GPU - There is none: everything runs on the CPU, but very slowly. On Colab choose a T4:",
    ),
    "check.cuda.cpu_torch": (
        "CUDA - Hay una {card}, pero este PyTorch es solo para CPU.",
        "CUDA - There is a {card}, but this PyTorch is built for the CPU only.",
    ),
    "check.cuda.driver": (
        "CUDA - Hay una {card}, pero PyTorch con CUDA {version} no la puede usar",
        "CUDA - There is a {card}, but PyTorch with CUDA {version} cannot use it",
    ),
    "check.two_onnxruntimes": (
        "onnxruntime - Están instalados a la vez {names}, y cada uno pisa los archivos del otro; deja uno solo",
        "onnxruntime - {names} are installed together and overwrite each other's files; keep one",
    ),
    "check.onnxruntime_generation": (
        "{name} {version} - Está hecho para otra versión de CUDA que la {cuda} de PyTorch: las caras se analizan en la "
        "CPU. Con esta CUDA va {needed}",
        "{name} {version} - Built for another CUDA than PyTorch's {cuda}: faces are analysed on the CPU. This CUDA "
        "goes with {needed}",
    ),
    "check.onnxruntime_cpu": (
        "{name} {version} - Compatible, pero analiza las caras en la CPU (una fracción de segundo por foto)",
        "{name} {version} - Compatible, but it analyses faces on the CPU (a fraction of a second per photo)",
    ),
    "check.insightface_numpy": (
        "insightface {version} - No funciona con numpy {numpy}; hace falta {needed}",
        "insightface {version} - Does not work with numpy {numpy}; {needed} is needed",
    ),
    "check.ram": ("RAM {gib:.1f} GiB - Suficiente", "RAM {gib:.1f} GiB - Enough"),
    "check.ram_low": (
        "RAM {gib:.1f} GiB - Justa: cargar los modelos pide unos {needed:.0f} GiB. Cierra otros programas o usa un "
        "entorno con más memoria",
        "RAM {gib:.1f} GiB - Tight: loading the models takes about {needed:.0f} GiB. Close other programs or use a "
        "runtime with more memory",
    ),
    "check.vram": ("VRAM {gib:.1f} GiB - Suficiente", "VRAM {gib:.1f} GiB - Enough"),
    "check.vram_low": (
        "VRAM {gib:.1f} GiB - Todo a la vez pide unos {needed:.0f} GiB: el plan de memoria buscará otra forma",
        "VRAM {gib:.1f} GiB - Everything at once takes about {needed:.0f} GiB: the memory plan will find another way",
    ),
    "check.disk": ("Disco {gib:.1f} GiB libres - Suficiente", "Disk {gib:.1f} GiB free - Enough"),
    "check.disk_low": (
        "Disco {gib:.1f} GiB libres - Los pesos ocupan unos {needed:.0f} GiB si no están ya descargados. Libera "
        "espacio",
        "Disk {gib:.1f} GiB free - The weights take about {needed:.0f} GiB unless they are there already. Free some "
        "space",
    ),
    "cure.first_cell": ("Ejecuta otra vez la celda 1 (Instalación)", "Run cell 1 (Installation) again"),
    "cure.new_environment.colab": (
        "Entorno de ejecución → Desconectarse y eliminar entorno de ejecución; abre uno nuevo y empieza por la celda 1",
        "Runtime → Disconnect and delete runtime; open a new one and begin with cell 1",
    ),
    "cure.new_environment.home": (
        "Crea un entorno nuevo: borra la carpeta .venv y ejecuta ./run",
        "Make a new environment: delete the folder .venv and start ./run",
    ),
    "cure.restart.colab": (
        "Entorno de ejecución → Reiniciar sesión, y comprueba otra vez",
        "Runtime → Restart session, and check again",
    ),
    "cure.restart.home": (
        "Comprueba otra vez; si sigue igual, reinicia el equipo",
        "Check again; if that does not help, restart the machine",
    ),
    "cure.driver.colab": (
        "Entorno de ejecución → Desconectarse y eliminar entorno de ejecución, y abre uno nuevo",
        "Runtime → Disconnect and delete runtime, and open a new one",
    ),
    "cure.driver.home": (
        "Actualiza el controlador de NVIDIA y reinicia el equipo",
        "Update the NVIDIA driver and restart the machine",
    ),
    "cure.gpu": (
        "Entorno de ejecución → Cambiar tipo de entorno de ejecución → GPU T4",
        "Runtime → Change runtime type → T4 GPU",
    ),
    "install.nothing": (
        "✅ Todo lo necesario ya está instalado; no hace falta reiniciar.",
        "✅ Everything needed is already installed; no restart needed.",
    ),
    "install.remove": (
        "➖ Se quita, porque pisa a otro: {packages}",
        "➖ Removing what overwrites another: {packages}",
    ),
    "install.again": (
        "➕ Se instala otra vez, porque está a medias: {packages}",
        "➕ Installing again, because it is half installed: {packages}",
    ),
    "install.bare": (
        "➕ Se instala sin sus dependencias, que ya tienen sustituto: {packages}",
        "➕ Installing without its own requirements, which have a stand-in: {packages}",
    ),
    "install.packages": ("➕ Se instala: {packages}", "➕ Installing: {packages}"),
    "install.done": ("✅ Instalado: {packages}", "✅ Installed: {packages}"),
    "install.no_restart": ("No hace falta reiniciar.", "No restart needed."),
    "install.restart": (
        "⚠️ Ya estaba importado y ha cambiado: {packages}. Reinicia: Entorno de ejecución → Reiniciar sesión.",
        "⚠️ Already imported and now changed: {packages}. Restart: Runtime → Restart session.",
    ),
    "install.old_torch": (
        "❌ PyTorch {version} es demasiado antiguo y no se toca. En Colab: Entorno de ejecución → Desconectarse y "
        "eliminar entorno de ejecución, y abre uno nuevo; en tu máquina, crea un entorno nuevo (borra .venv y "
        "ejecuta ./run).",
        "❌ PyTorch {version} is too old and is left alone. On Colab: Runtime → Disconnect and delete runtime, then "
        "open a new one; on your machine make a new environment (delete .venv and start ./run).",
    ),
    "install.pip_failed": (
        "pip no pudo instalar {packages} (código {exit_code}). Comprueba la conexión y el espacio libre y vuelve a "
        "intentarlo. Lo último que dijo:\n{tail}",
        "pip could not install {packages} (code {exit_code}). Check the connection and the free space and try again. "
        "Its last lines:\n{tail}",
    ),
}
