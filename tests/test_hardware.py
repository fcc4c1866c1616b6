"""What is asked of the machine: GPU, RAM with the limits of containers, disk, allocator."""

import os
from collections import namedtuple

import pytest

from instantid import hardware as asked_machine
from instantid.hardware import GIB, detect_hardware, memory_in_use, peak_vram_gib, prepare_allocator

Memory = namedtuple("Memory", "total available")
Disk = namedtuple("Disk", "free")
Properties = namedtuple("Properties", "total_memory")


@pytest.fixture
def machine(monkeypatch):
    """A machine of known size; the test adds a GPU. Keeps which folder's disk was measured."""
    torch, measured = asked_machine.torch, []
    monkeypatch.setattr(asked_machine.psutil, "virtual_memory", lambda: Memory(16 * GIB, 9 * GIB))
    monkeypatch.setattr(asked_machine.shutil, "disk_usage", lambda p: measured.append(p) or Disk(70 * GIB))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return measured


@pytest.fixture
def card(machine, monkeypatch):
    """The machine with a T4 in it."""
    cuda = asked_machine.torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(cuda, "mem_get_info", lambda: (14 * GIB, 15 * GIB))
    monkeypatch.setattr(cuda, "memory_reserved", lambda: 0)
    monkeypatch.setattr(cuda, "memory_allocated", lambda: 0)
    return cuda


def test_a_processor_is_told_with_its_memory(machine, tmp_path):
    found = detect_hardware(root=tmp_path)
    assert (found.device, found.capability, found.vram_total_gib, found.vram_free_gib) == ("cpu", None, None, None)
    assert (found.ram_total_gib, found.ram_free_gib, found.disk_free_gib) == (16, 9, 70)


def test_an_nvidia_gpu_is_told_with_its_memory(card):
    found = detect_hardware()
    assert (found.device, found.name, found.capability) == ("cuda", "Tesla T4", (7, 5))
    assert (found.vram_total_gib, found.vram_free_gib) == (15, 14)


def test_what_torch_keeps_for_reuse_counts_as_free(card, monkeypatch):
    """The card calls it taken: a long session would be warned of a full card that is not."""
    monkeypatch.setattr(card, "mem_get_info", lambda: (1 * GIB, 15 * GIB))
    monkeypatch.setattr(card, "memory_reserved", lambda: 13 * GIB)
    monkeypatch.setattr(card, "memory_allocated", lambda: 10 * GIB)
    assert memory_in_use().vram_free_gib == 4


def test_a_card_that_others_have_filled_is_told_as_full(card, monkeypatch):
    def refuse():
        raise asked_machine.torch.OutOfMemoryError("CUDA error: out of memory")

    monkeypatch.setattr(card, "mem_get_info", refuse)
    monkeypatch.setattr(card, "current_device", lambda: 0)
    monkeypatch.setattr(card, "get_device_properties", lambda device: Properties(15 * GIB))
    found = detect_hardware()
    assert (found.device, found.vram_total_gib, found.vram_free_gib) == ("cuda", 15, 0)


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


def test_without_a_home_the_disk_of_the_working_folder_is_measured(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(asked_machine.os.path, "expanduser", lambda path: path)  # as it is for a user without one
    monkeypatch.chdir(tmp_path)
    detect_hardware()
    assert machine == [tmp_path]


# Containers: what the machine has and what this process may have are two things


def system(root, files):
    """A root folder with these files of the system: path -> text; numbers are GiB."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{int(text * GIB)}\n" if isinstance(text, float | int) else text)
    return root


def cache(version, gib):
    """memory.stat with so much of files that were not used lately."""
    prefix = "" if version == 2 else "total_"
    return f"anon 7\n{prefix}inactive_file {gib * GIB}\n{prefix}active_file 3\n"


V2 = {
    "proc/self/cgroup": "0::/pod/inner\n",
    "sys/fs/cgroup/pod/inner/memory.max": 8,
    "sys/fs/cgroup/pod/inner/memory.current": 6,
    "sys/fs/cgroup/pod/inner/memory.stat": cache(2, 1),
}
V1 = {
    "proc/self/cgroup": "9:cpu,cpuacct:/job\n4:hugetlb,memory:/job\n0::/\n",
    "sys/fs/cgroup/memory/job/memory.limit_in_bytes": 8,
    "sys/fs/cgroup/memory/job/memory.usage_in_bytes": 6,
    "sys/fs/cgroup/memory/job/memory.stat": cache(1, 1),
}
POD = "sys/fs/cgroup/pod"

# files of the system -> RAM in all and free on a machine of 16 GiB with 9 free
CONTAINERS = {
    "version 2": (V2, (8, 3)),
    "version 1": (V1, (8, 3)),
    "version 2 without a limit": (V2 | {f"{POD}/inner/memory.max": "max\n"}, (16, 9)),
    "version 1 without a limit": (V1 | {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(2**63 - 4096)}, (16, 9)),
    "a tighter group around it": (V2 | {f"{POD}/memory.max": 6, f"{POD}/memory.current": 5.5}, (6, 0.5)),
    "a wider group around it that is fuller": (V2 | {f"{POD}/memory.max": 12, f"{POD}/memory.current": 11}, (8, 1)),
    "a limit that is larger than the machine": (V2 | {f"{POD}/inner/memory.max": 64}, (16, 9)),
    "more used than allowed": (V2 | {f"{POD}/inner/memory.current": 9.5}, (8, 0)),
    "a limit and nothing else": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": 5},
        (5, 5),
    ),
    "a group that is named as the machine outside knows it": (
        {"proc/self/cgroup": "5:memory:/docker/8f3a\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": 4},
        (4, 4),
    ),
    "files that make no sense": (
        {"proc/self/cgroup": "\n::\nx\n0::/a\n", "sys/fs/cgroup/a/memory.max": "-1", "sys/fs/cgroup/memory.max": "?"},
        (16, 9),
    ),
    "a folder in the place of a file": ({"proc/self/cgroup/x": "", "proc/self/status/x": ""}, (16, 9)),
    "nothing": ({}, (16, 9)),
}


@pytest.mark.parametrize(("files", "ram"), CONTAINERS.values(), ids=CONTAINERS)
def test_ram_is_the_least_that_machine_and_groups_allow(machine, tmp_path, files, ram):
    found = detect_hardware(root=system(tmp_path, files))
    assert (found.ram_total_gib, found.ram_free_gib) == pytest.approx(ram)


def test_files_that_may_not_be_read_are_as_if_they_were_not_there(machine, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("not for you")

    monkeypatch.setattr(asked_machine.Path, "read_text", refuse)
    found = detect_hardware(root=system(tmp_path, V2))
    assert (found.ram_total_gib, found.ram_free_gib) == (16, 9)


# This process


def test_anonymous_ram_is_told_apart_from_mapped_files(machine, tmp_path):
    status = f"Name:\tpython\nVmRSS:\t{5 * 2**20} kB\nRssAnon:\t{3 * 2**20} kB\nRssFile:\t{2 * 2**20} kB\n"
    use = memory_in_use(system(tmp_path, {"proc/self/status": status}))
    assert (use.anonymous_gib, use.mapped_gib) == (3, 2)


def test_where_the_two_are_not_told_apart_all_ram_of_the_process_is_anonymous(machine, tmp_path):
    use = memory_in_use(tmp_path)
    assert use.anonymous_gib > 0.01
    assert use.mapped_gib == 0


def test_this_process_and_its_machine_are_measured():
    use = memory_in_use()
    assert 0 < use.anonymous_gib < use.ram_total_gib
    assert 0 < use.ram_free_gib <= use.ram_total_gib


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
