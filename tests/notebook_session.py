"""The notebook in a kernel of its own, its forms filled in as a person would, and nothing of it reaching a network."""

import io
import os
import re
import subprocess
import zipfile
from contextlib import contextmanager
from pathlib import Path

import insightface
import nbformat
from gradio_client import Client
from nbclient import NotebookClient

from instantid.packing import TOP, code_archive
from instantid.requirements import ROOT
from instantid.ui_look import mend_schema_reader

NOTEBOOK = ROOT / "InstantID_Gradio.ipynb"
PHOTO = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"  # six people
STEPS = 2  # of the last cell and of the page
SECONDS = 60  # the longest wait for any cell

# Whatever would go out to the network fails at once.
NO_NETWORK = {
    "PIP_NO_INDEX": "1",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}


class Session:
    """A kernel that the notebook is open in; its forms are filled in by name."""

    def __init__(self, client):
        self.client = client
        self.names = [cell.id for cell in client.nb.cells]

    def run(self, name, **form):
        """Runs a cell with these values in its form; its outputs."""
        index = self.names.index(name)
        cell = self.client.nb.cells[index]
        for field, value in form.items():
            cell.source, count = re.subn(
                rf"^{field} = .+?(?=  # @param)", f"{field} = {value!r}", cell.source, flags=re.M
            )
            assert count == 1, field
        self.client.execute_cell(cell, index)
        return cell.outputs

    def run_all(self, language, **first):
        """Runs every cell, the first with `first` in its form, the last with few steps; name -> outputs."""
        forms = {"install": {"IDIOMA": language} | first, "direct": {"FOTO": "", "PASOS": STEPS}}
        names = [cell.id for cell in self.client.nb.cells if cell.cell_type == "code" and cell.id in self.names]
        return {name: self.run(name, **forms.get(name, {})) for name in names}

    def ask(self, code):
        """Runs code that is not in the notebook; its outputs."""
        cell = nbformat.v4.new_code_cell(code)
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        return cell.outputs

    def address(self):
        """Where the page of the notebook is served."""
        return printed(self.ask("print(demo.local_url)")).strip()

    def page(self):
        """A client of that page."""
        mend_schema_reader()  # for the client in this process
        return Client(self.address(), verbose=False, download_files=False)


@contextmanager
def opened(folder, scratch, notebook=NOTEBOOK, path=""):
    """The notebook open in `folder`; whatever else it writes goes to `scratch`. `path`: a PYTHONPATH."""
    client = NotebookClient(
        nbformat.read(notebook, as_version=4),
        kernel_name="python3",
        timeout=SECONDS,
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    # ./run puts the project on the path; a person who opens the notebook has not.
    own = {"INSTANTID_HOME": str(scratch / "home"), "IPYTHONDIR": str(scratch / "ipython"), "PYTHONPATH": str(path)}
    with client.setup_kernel(env=os.environ | NO_NETWORK | own):
        yield Session(client)


def printed(outputs, stream="stdout"):
    return "".join(output.text for output in outputs if output.get("name") == stream)


def first_line(outputs):
    return printed(outputs).splitlines()[0]


def error_of(outputs):
    """The lines shown for the error that ended a cell."""
    (error,) = (output for output in outputs if output.output_type == "error")
    return error.traceback


def publish(folder):
    """The project in `folder` as the git repository that one would publish."""
    zipfile.ZipFile(io.BytesIO(code_archive())).extractall(folder)
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "project"]):
        subprocess.run(["git", *command], cwd=folder / TOP, check=True)
    return folder / TOP
