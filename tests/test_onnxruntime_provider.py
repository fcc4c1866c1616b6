"""Where onnxruntime really runs: the check loads PyTorch and the libraries of CUDA before it, as the faces do."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from broken_machines import ON_CUDA, ONNXRUNTIME, Environment

from instantid import faces, probe


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path)


def test_the_check_loads_the_libraries_of_cuda_as_the_faces_do(environment):
    """An onnxruntime that finds CUDA only if PyTorch came first and its libraries were loaded then."""
    environment.put(
        "onnxruntime-gpu",
        "1.26.0",
        ONNXRUNTIME.format(offered=ON_CUDA, works="[loaded, 'CPUExecutionProvider']")
        + """
import sys
loaded = "CPUExecutionProvider"
def preload_dlls():
    global loaded
    loaded = "CUDAExecutionProvider" if "torch" in sys.modules else loaded
""",
    )
    answers = probe.ask_libraries(["onnxruntime"], [str(environment.folder)])
    assert answers["onnxruntime"]["providers"][0] == "CUDAExecutionProvider"


def test_an_onnxruntime_from_before_preload_dlls_still_comes_after_torch(environment):
    seen = "['CUDAExecutionProvider'] if 'torch' in __import__('sys').modules else ['CPUExecutionProvider']"
    environment.onnxruntime(works=seen)
    answers = probe.ask_libraries(["onnxruntime"], [str(environment.folder)])
    assert answers["onnxruntime"]["providers"] == ["CUDAExecutionProvider"]


def test_onnxruntime_answers_beside_a_torch_that_cannot_be_imported(environment):
    environment.put("torch", "2.11.0", "raise ImportError('libc10.so')")
    answers = probe.ask_libraries(["onnxruntime"], [str(environment.folder)])
    assert answers["onnxruntime"]["providers"] == ON_CUDA


def test_faces_on_cuda_load_its_libraries_before_their_sessions(tmp_path, monkeypatch):
    calls = []
    session = SimpleNamespace(get_providers=lambda: ON_CUDA)

    class FaceAnalysis:
        def __init__(self, **options):
            calls.append("sessions")
            self.models = {"recognition": SimpleNamespace(session=session)}

        def prepare(self, **options):
            pass

    onnxruntime = ModuleType("onnxruntime")
    onnxruntime.preload_dlls = lambda: calls.append("preload_dlls")
    onnxruntime.get_available_providers = lambda: ON_CUDA
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime)
    monkeypatch.setitem(sys.modules, "insightface.app", SimpleNamespace(FaceAnalysis=FaceAnalysis))
    monkeypatch.setattr(probe.importlib, "import_module", calls.append)
    assert faces.FaceAnalyser(tmp_path, "cuda").provider == "CUDAExecutionProvider"
    assert calls == ["torch", "preload_dlls", "sessions"]
