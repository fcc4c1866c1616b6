"""What is asked of the machine."""

import os
from collections import namedtuple

import pytest

from instantid import hardware as asked_machine
from instantid.hardware import GIB, detect_hardware, peak_vram_gib, prepare_allocator

Memory = namedtuple("Memory", "total available")
Disk = namedtuple("Disk", "free")


@pytest.fixture
def machine(monkeypatch):
    """A machine of known size; the test adds a GPU. Keeps which folder's disk was measured."""
    torch, measured = asked_machine.torch, []
    monkeypatch.setattr(asked_machine.psutil, "virtual_memory", lambda: Memory(16 * GIB, 9 * GIB))
    monkeypatch.setattr(asked_machine.shutil, "disk_usage", lambda p: measured.append(p) or Disk(70 * GIB))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return measured


def test_a_processor_is_told_with_its_memory(machine):
    found = detect_hardware()
    assert (found.device, found.capability, found.vram_total_gib, found.vram_free_gib) == ("cpu", None, None, None)
    assert (found.ram_total_gib, found.ram_free_gib, found.disk_free_gib) == (16, 9, 70)


def test_an_nvidia_gpu_is_told_with_its_memory(machine, monkeypatch):
    cuda = asked_machine.torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(cuda, "mem_get_info", lambda: (14 * GIB, 15 * GIB))
    found = detect_hardware()
    assert (found.device, found.name, found.capability) == ("cuda", "Tesla T4", (7, 5))
    assert (found.vram_total_gib, found.vram_free_gib) == (15, 14)


def test_an_apple_gpu_has_no_memory_of_its_own(machine, monkeypatch):
    monkeypatch.setattr(asked_machine.torch.backends.mps, "is_available", lambda: True)
    found = detect_hardware()
    assert (found.device, found.vram_total_gib) == ("mps", None)


def test_the_disk_of_a_folder_that_does_not_exist_yet_is_that_of_the_nearest_that_does(machine, tmp_path):
    detect_hardware(tmp_path / "weights" / "base")
    assert machine == [tmp_path]


def test_this_machine_has_what_it_says():
    found = detect_hardware()
    assert found.device == ("cuda" if asked_machine.torch.cuda.is_available() else found.device)
    assert 0 < found.ram_free_gib <= found.ram_total_gib
    assert found.disk_free_gib > 0


@pytest.mark.skipif(asked_machine.torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_there_is_no_peak():
    assert peak_vram_gib() is None


OLD_NAME, NEW_NAME = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"


@pytest.fixture
def environment(monkeypatch):
    """The environment without allocator settings; what is set in it is gone after the test."""
    others = {name: value for name, value in os.environ.items() if name not in (OLD_NAME, NEW_NAME)}
    monkeypatch.setattr(asked_machine.os, "environ", others)
    monkeypatch.setattr(asked_machine.torch.cuda, "is_initialized", lambda: False)
    return others


def allocator_settings(environment):
    return {name: environment[name] for name in (OLD_NAME, NEW_NAME) if name in environment}


@pytest.mark.parametrize(
    ("version", "name"),
    [("2.6.0", OLD_NAME), ("2.8.1+cu128", OLD_NAME), ("2.9.0+cpu", NEW_NAME), ("2.13.0", NEW_NAME), ("3.0", NEW_NAME)],
)
def test_the_allocator_is_set_under_the_name_that_this_torch_reads(environment, monkeypatch, version, name):
    monkeypatch.setattr(asked_machine.torch, "__version__", version)
    assert prepare_allocator("max_split_size_mb:64") is True
    assert allocator_settings(environment) == {name: "max_split_size_mb:64"}


@pytest.mark.parametrize("name", [OLD_NAME, NEW_NAME])
def test_an_allocator_setting_of_the_persons_own_stays(environment, name):
    environment[name] = "expandable_segments:True"
    prepare_allocator()
    assert allocator_settings(environment) == {name: "expandable_segments:True"}


def test_an_allocator_that_runs_already_is_told(environment, monkeypatch):
    monkeypatch.setattr(asked_machine.torch.cuda, "is_initialized", lambda: True)
    assert prepare_allocator() is False
