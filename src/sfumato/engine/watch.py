"""What is shown and kept of the steps: previews now and then, or every step as a picture."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence

from PIL import Image

from sfumato.engine.material import Material
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.preview import Method, Previewer
from sfumato.engine.sampling.step import Step
from sfumato.events import Event, Preview, StepDone, Warned
from sfumato.request import Generation

PREVIEW_SIDE = 512
PREVIEW_QUALITY = 80


class Watch:
    """Turns steps into events, and keeps pictures of them where the request wants that.

    Args:
        request: says what is shown, how often, and whether all is kept.
        material: for its small decoder.
    """

    def __init__(self, request: Generation, material: Material) -> None:
        self._request = request
        self._taesd = material.taesd[1] if material.taesd else None
        self._previewers: dict[int, Previewer] = {}
        self._frames: dict[int, list[Image.Image]] = defaultdict(list)

    def opening(self) -> Iterator[Event]:
        """What is to be said before the first step."""
        if self._request.preview == "taesd" and self._taesd is None:
            yield Warned("No TAESD decoder is at hand for this model; previews show the linear approximation instead.")

    def seen(self, model: DiffusionModel, step: Step, steps: int, indices: Sequence[int]) -> Iterator[Event]:
        """The events of one step of these pictures."""
        request = self._request
        yield StepDone(step.index + 1, steps, step.sigma_next, indices[0], len(indices))
        shown = request.preview != "none" and (step.index + 1) % request.preview_every == 0
        if not shown and request.keep_steps == "none":
            return
        pictures = self._previewer(model)(step.denoised)
        if request.keep_steps != "none":
            for index, picture in zip(indices, pictures, strict=True):
                self._frames[index].append(picture)
        if shown:
            for index, picture in zip(indices, pictures, strict=True):
                yield Preview(_jpeg(picture), "image/jpeg", index)

    def frames(self, index: int) -> tuple[Image.Image, ...]:
        """The pictures kept of the steps of picture `index`; they are given away, not kept any longer."""
        return tuple(self._frames.pop(index, ()))

    def _previewer(self, model: DiffusionModel) -> Previewer:
        if id(model) not in self._previewers:
            method: Method = self._request.preview if self._request.preview != "none" else "taesd"
            self._previewers[id(model)] = Previewer(method, model, self._taesd)
        return self._previewers[id(model)]


def _jpeg(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=PREVIEW_QUALITY)
    return buffer.getvalue()
