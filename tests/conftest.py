"""What every test shares: the surroundings of a run, and the random bundle, written and loaded once."""

import gc
import os

import pytest

# No test talks to a model hub or sends statistics, whatever the machine allows.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
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
