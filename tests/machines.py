"""Machines for tests of the memory plan; GiB."""

from instantid.hardware import Hardware


def gpu(vram, ram, *, vram_free=None, ram_free=None, capability=(7, 5)):
    """A machine with an NVIDIA GPU. As much is free as usually is."""
    vram_free = vram - 0.2 if vram_free is None else vram_free
    ram_free = ram - 1.4 if ram_free is None else ram_free
    return Hardware("cuda", "A card", capability, vram, vram_free, ram, ram_free, 100.0)


def without_gpu(ram_free, device="cpu"):
    return Hardware(device, "A processor", None, None, None, ram_free + 3, ram_free, 100.0)


T4 = gpu(14.6, 51.0)
