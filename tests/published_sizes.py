"""How large the parts of the published InstantID are, with an SDXL base, for tests that have no such files."""

from instantid.component_sizes import ComponentSize, ComponentSizes

MILLIONS = {
    "unet": 2567,
    "identitynet": 1251,
    "text_encoders": 818,
    "vae": 84,
    "identity_layers": 341,
    "resampler": 82,
}


def in_half_precision(millions: dict[str, float]) -> ComponentSizes:
    """Parts with so many million parameters each."""
    counts = {name: round(count * 1e6) for name, count in millions.items()}
    return ComponentSizes(**{name: ComponentSize(count, 2 * count, "float16") for name, count in counts.items()})


PUBLISHED = in_half_precision(MILLIONS)
TOY = in_half_precision(dict.fromkeys(MILLIONS, 0.1))
