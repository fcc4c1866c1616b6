"""What every test shares: the surroundings of a run, and the random bundle, written and loaded once."""

import gc
import importlib
import os
import shutil
import time
import types

import pytest

importlib.import_module("instantid")  # before any library: it tells them to send no statistics
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test talks to a model hub, whatever the machine allows
# Toy models are too small to share: a second thread makes their pictures slower, by half.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory):
    """The folder of a random bundle, for reading: a test that changes files takes a copy."""
    from instantid.random_bundle import write_random_bundle  # here: half of the test files need no torch

    return write_random_bundle(tmp_path_factory.mktemp("random") / "bundle")


@pytest.fixture
def bundle_copy(random_bundle, tmp_path):
    """A random bundle to change files of."""
    return shutil.copytree(random_bundle, tmp_path / "bundle")


@pytest.fixture(scope="session")
def single_file_bundle(random_bundle, tmp_path_factory):
    """The random bundle with its base model in one file, described by `base_config/`; for reading."""
    from single_file import write_single_file

    folder = tmp_path_factory.mktemp("single") / "bundle"
    for part in ("ControlNetModel", "antelopev2"):
        shutil.copytree(random_bundle / part, folder / part)
    shutil.copy(random_bundle / "ip-adapter.bin", folder)
    write_single_file(random_bundle / "base", folder / "base.safetensors")
    shutil.copytree(random_bundle / "base", folder / "base_config", ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.fixture(scope="session")
def models(random_bundle):
    """The random bundle as the application loads it, for every test that leaves it as it was."""
    from instantid.loading import load_models

    models = load_models(random_bundle, write=lambda line: None)
    gc.collect()
    gc.freeze()  # every generation collects garbage: the libraries need not be searched for it each time
    return models


@pytest.fixture
def quick_client(monkeypatch):
    """The hub's real client, allowed to talk to this machine, by thousands of bytes and without pauses to try again."""
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    impatient = types.SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.file_download.time", impatient)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Older clients keep one session per thread, made while they were offline.
    forget = getattr(huggingface_hub.utils._http, "reset_sessions", lambda: None)
    forget()
    yield
    forget()
