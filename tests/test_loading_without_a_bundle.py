"""Which bundle is taken where none is named: the published weights, the shipped bundle, or random weights."""

import shutil

import numpy as np
import pytest
from loaded_bundles import picture
from machines import T4, without_gpu

from instantid import loading
from instantid.loading import DEMO, choose_bundle, load_models
from instantid.messages import say
from instantid.random_bundle import DESCRIPTION
from ip_adapter.errors import MachineError, UserError


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(loading, "detect_hardware", lambda folder=None: without_gpu(9.0))


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(loading, "detect_hardware", lambda folder=None: T4)


@pytest.fixture
def shipped(random_bundle, tmp_path, monkeypatch):
    """A bundle in the place of the one that is shipped, and no published weights."""
    folder = shutil.copytree(random_bundle, tmp_path / "shipped")
    monkeypatch.setattr(loading, "SHIPPED_BUNDLE", folder)
    monkeypatch.setenv("INSTANTID_HOME", str(tmp_path / "home"))
    return folder


def test_without_a_gpu_and_a_bundle_random_weights_are_made_and_called_so(no_gpu, tmp_path, monkeypatch, models):
    monkeypatch.setattr(loading, "SHIPPED_BUNDLE", tmp_path / "absent")
    monkeypatch.setenv("INSTANTID_HOME", str(tmp_path / "home"))
    lines = []
    made = load_models(language="en", write=lines.append)
    assert lines[0] == f"📦 {DESCRIPTION['en']}"
    assert made.bundle.identitynet.is_relative_to(tmp_path / "home")
    np.testing.assert_array_equal(picture(made), picture(models))


@pytest.mark.parametrize("base", [None, DEMO])
def test_without_a_gpu_the_shipped_bundle_is_taken_and_no_random_one_written(shipped, no_gpu, tmp_path, base):
    assert choose_bundle(base=base).folder == shipped
    assert not (tmp_path / "home").exists()


def test_where_no_bundle_is_shipped_a_random_one_is_written(shipped, no_gpu, tmp_path):
    shutil.rmtree(shipped)
    assert choose_bundle().folder == tmp_path / "home" / "random-bundle"


def test_the_demo_can_be_asked_for_beside_a_gpu(shipped, a_gpu):
    assert choose_bundle(base=DEMO).folder == shipped


def test_without_a_network_the_shipped_bundle_is_taken_and_said(shipped, a_gpu):
    lines = []
    assert choose_bundle(language="en", write=lines.append).folder == shipped
    assert lines == [say("loading.no_network", "en")]


@pytest.mark.parametrize("asked", [{"base": "sdxl-base-1.0"}, {}], ids=["a base was asked for", "nothing is shipped"])
def test_without_a_network_nothing_takes_the_place_of_what_was_asked_for(shipped, a_gpu, asked):
    if not asked:
        shutil.rmtree(shipped)
    with pytest.raises(MachineError) as raised:
        choose_bundle(**asked)
    assert raised.value.code == "weights.network"


def test_a_base_that_is_asked_for_is_never_answered_with_random_weights(no_gpu, tmp_path):
    with pytest.raises(UserError) as caught:
        load_models(base="no-such-model", folder=tmp_path, write=lambda line: None)
    assert caught.value.code == "weights.unknown_base"
