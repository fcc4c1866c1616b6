"""Old InstantID notebooks, as people have them, and notebooks of other kinds. All of them are written here.

A cell is given as its source; the notebook around it is what Jupyter and Colab write.
"""

import json
from collections.abc import Sequence
from pathlib import Path

INSTALL = """\
# 🔧 Instalación de dependencias
!nvidia-smi
!pip install -q torch==2.0.1+cu118 torchvision==0.15.2+cu118 --extra-index-url https://download.pytorch.org/whl/cu118
!pip install -q diffusers==0.24.0 transformers==4.36.2 \\
    huggingface_hub==0.19.4 accelerate==0.25.0  # las de entonces
!pip install insightface==0.7.3 onnxruntime==1.16.0 onnxruntime-gpu==1.16.0 numpy==1.26.0 controlnet_aux==0.0.7
"""

CHECK = """\
import torch
import diffusers

# Las versiones tienen que ser exactamente estas
esperadas = {"torch": "2.0.1+cu118", "diffusers": "0.24.0"}
todo_bien = True
for paquete, version in esperadas.items():
    actual = torch.__version__ if paquete == "torch" else diffusers.__version__
    if actual != version:
        print(f"⚠️ {paquete}: {actual}, se esperaba {version}")
        todo_bien = False
if not todo_bien:
    raise RuntimeError("Versiones incorrectas")

print("GPU:", torch.cuda.is_available())
"""

IMPORTS = """\
import cv2
import numpy as np
from diffusers.models.controlnet import ControlNetModel
from diffusers.pipelines.controlnet.multicontrolnet import MultiControlNetModel
from diffusers.utils import load_image, randn_tensor
from transformers import CLIPFeatureExtractor
from insightface.app import FaceAnalysis
from huggingface_hub import hf_hub_download
from ip_adapter.resampler import Resampler
from pipeline_stable_diffusion_xl_instantid import StableDiffusionXLInstantIDPipeline, draw_kps
"""

MODELS = """\
for archivo in ("ControlNetModel/config.json", "ip-adapter.bin"):
    hf_hub_download(
        repo_id="InstantX/InstantID",
        filename=archivo,
        local_dir="./checkpoints",
        resume_download=True,
    )
proyeccion = Resampler(dim=2048, depth=4, heads=12, num_queries=16, embedding_dim=512, output_dim=2048)
pipe.enable_vae_tiling()  # en una T4
"""

GENERATE = '''\
def generate_image(foto, descripcion):
    """Primera versión."""
    return pipe(descripcion, image_embeds=foto).images[0]
'''

GENERATE_AGAIN = '''\
def generate_image(foto, descripcion, pasos=30):
    """Versión con pasos: la buena."""
    return pipe(descripcion, image_embeds=foto, num_inference_steps=pasos).images[0]


demo = gr.Interface(fn=generate_image, inputs="image", outputs="image")
'''

FIVE_FAULTS = (
    "# InstantID\nRetratos a partir de una foto 📷",
    INSTALL,
    CHECK,
    IMPORTS,
    MODELS,
    GENERATE,
    GENERATE_AGAIN,
)

PANDAS = ("import pandas as pd\n\n!pip install pandas==1.5.0 numpy==1.23.0", "pd.DataFrame({'heads': [12]}).head()")
PINNED_TORCH = (
    "# Classifier\nsomething else",
    "!pip install torch==2.0.0 torchvision==0.15.1",
    'import torch\nassert torch.__version__ == "2.0.0"',
    "def train():\n    return 1",
    "def train():\n    return 2",
)
ONLY_IN_WORDS = ("# Unlike InstantID, this draws cats", "!pip install torch==2.0.0 diffusers==0.20.0")


def notebook(
    sources: Sequence[str], as_lines: bool = True, outputs: Sequence[dict] = (), minor: int = 5, **metadata
) -> dict:
    """A notebook of these cells; the ones that begin with `# ` and a name in capitals are Markdown.

    Args:
        as_lines: sources as lists of lines, which is usual, or as one string each.
        outputs: of every code cell.
    """
    cells = []
    for number, source in enumerate(sources):
        text = source.removesuffix("\n")
        written = text.splitlines(keepends=True) if as_lines else text
        cell = {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": written}
        if not is_words(source):
            cell |= {"cell_type": "code", "execution_count": number if outputs else None, "outputs": list(outputs)}
        cells.append(cell)
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": minor}


def is_words(source: str) -> bool:
    """Markdown: a title and nothing that runs."""
    return source.startswith(("# InstantID\n", "# Classifier\n", "# Unlike "))


def write(
    path: Path, sources: Sequence[str], indent: int | None = 1, ascii_only: bool = False, ending: str = "\n", **options
) -> Path:
    """The notebook of these cells as a file."""
    text = json.dumps(notebook(sources, **options), indent=indent, ensure_ascii=ascii_only) + ending
    path.write_bytes(text.encode("utf-8"))
    return path


def code_of(path: Path) -> list[str]:
    """The sources of the code cells of a file."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
