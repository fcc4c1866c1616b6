"""What every test shares: the surroundings of a run, and the random bundle, written and loaded once."""

import gc
import importlib
import os
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
