"""What mends a finding of the check, in the words of the place where the person reads it.

On a command line that is a command for this very Python, whose name may not be `python`. A notebook's cell takes no
commands: there the first cell mends what the installer can, and pip is called as `%pip`. On Colab the rest stands in a
menu, elsewhere it is done by hand.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from instantid.messages import say
from instantid.probe import ROOT


@dataclass(frozen=True)
class Cure:
    """One thing to do."""

    kind: str  # "installer", "pip", "new_environment", "restart", "driver" or "gpu"
    arguments: str = ""  # of pip

    def text(self, language: str) -> str:
        """What a person does, here."""
        place = reading_place()
        if self.kind == "pip":
            return f"{shell_python()} -m pip {self.arguments}" if place == "shell" else f"%pip {self.arguments}"
        if self.kind == "installer":
            return installer_command() if place == "shell" else say("cure.first_cell", language)
        if self.kind == "gpu":  # Colab is where a GPU can be had
            return say("cure.gpu", language)
        return say(f"cure.{self.kind}.{'colab' if place == 'colab' else 'home'}", language)


INSTALLER = Cure("installer")
NEW_ENVIRONMENT = Cure("new_environment")
RESTART = Cure("restart")
DRIVER = Cure("driver")
GPU = Cure("gpu")


def pip(arguments: str) -> Cure:
    return Cure("pip", arguments)


def reinstall(name: str, version: str) -> Cure:
    """The same version once more. pip cannot uninstall a package whose list of files is gone, so it does not try."""
    return pip(f'install --ignore-installed --no-deps "{name}=={version}"')


def reading_place() -> str:
    """Where the person reads what this process prints: "colab", "notebook" or "shell"."""
    if "google.colab" in sys.modules:
        return "colab"
    ipython = sys.modules.get("IPython")
    return "notebook" if ipython and ipython.get_ipython() else "shell"


def shell_python() -> str:
    """How a command line calls this Python."""
    return "python" if shutil.which("python") == sys.executable else _quoted(sys.executable)


def installer_command() -> str:
    """The command that starts the installer from where the person is."""
    command = f"{shell_python()} -m instantid.installation"
    elsewhere = (ROOT / "requirements.txt").is_file() and Path.cwd() != ROOT
    return f"cd {_quoted(str(ROOT))} && {command}" if elsewhere else command


def _quoted(path: str) -> str:
    return subprocess.list2cmdline([path]) if os.name == "nt" else shlex.quote(path)
