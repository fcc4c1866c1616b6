"""A stand-in for the models behind the page: keeps what it was asked, answers with coloured pictures."""

import threading
from dataclasses import dataclass, field, replace

from PIL import Image

from instantid.request import GenerationRequest, GenerationResult, Progress
from ip_adapter.errors import StateError


@dataclass
class FakeGenerator:
    """Answers like the real one: checks the request, reports steps, polls `cancelled`.

    With `held` set, a run stays in its denoising until it is released or cancelled.
    """

    error: Exception | None = None  # raised instead of answering
    held: bool = False
    requests: list[GenerationRequest] = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))  # one release per run
    release: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    most_at_once: int = 0

    def __call__(self, request, on_progress, cancelled) -> GenerationResult:
        request = request.checked()
        self.requests.append(request)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            self.started.release()
            return self._answer(request, on_progress, cancelled)
        finally:
            self.running -= 1

    def _answer(self, request, on_progress, cancelled) -> GenerationResult:
        on_progress(Progress("faces"))
        on_progress(Progress("text"))
        if self.error is not None:
            raise self.error
        for step in range(1, request.steps + 1):
            on_progress(Progress("denoising", step, request.steps))
            while self.held and not cancelled() and not self.release.wait(0.02):
                pass
            if cancelled():
                raise StateError("generation.cancelled", "The run was cancelled.")
        on_progress(Progress("decoding", request.steps, request.steps))
        on_progress(Progress("done", request.steps, request.steps))
        width, height = request.width or 96, request.height or 128
        return GenerationResult(
            images=[Image.new("RGB", (width, height), (40 * i + 40, 120, 140)) for i in range(request.count)],
            seeds=request.seeds(),
            request=replace(request),
            width=width,
            height=height,
            face=None,
            face_picture=Image.new("RGB", (48, 56), (224, 180, 150)),
            key_points_picture=Image.new("RGB", (width, height)),
            key_points=None,
            seconds={"faces": 0.25, "text": 0.05, "denoising": 1.5, "decoding": 0.2, "total": 2.0},
            peak_vram_gib=10.4,
        )
