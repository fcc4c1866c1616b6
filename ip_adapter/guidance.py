"""Guidance that ends before the last step: from there on the unconditional half is not computed."""

import math
from collections.abc import Callable, Sequence
from typing import Any

# What a diffusers SDXL pipeline holds in two halves, unconditional first, and lets a callback change.
HALVED = ("prompt_embeds", "add_text_embeds", "add_time_ids")

Callback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


def ending_guidance(end: float, callback: Callback | None, wanted: Sequence[str]) -> tuple[Callback, list[str]]:
    """A `callback_on_step_end` that ends guidance after a share of the steps, and the tensors that it asks for.

    Args:
        end: share of the steps with guidance, above 0 and below 1; begun steps count.
        callback, wanted: the caller's own, which go on being called with what they ask for.
    """
    wanted = getattr(callback, "tensor_inputs", wanted)  # diffusers' own callbacks say it themselves

    def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        changed = callback(pipe, step, timestep, {name: tensors[name] for name in wanted}) if callback else {}
        if pipe.do_classifier_free_guidance and step + 1 >= math.ceil(end * pipe.num_timesteps):
            pipe._guidance_scale = 1.0  # diffusers asks before each step whether there is guidance
            current = tensors | changed
            changed = changed | {name: current[name].chunk(2)[-1] for name in HALVED}
        return changed

    return after_step, list(dict.fromkeys((*wanted, *HALVED)))
