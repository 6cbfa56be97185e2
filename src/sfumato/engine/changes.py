"""Image-to-image: the source pictures of a request, brought to size, as the start of the sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby

from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sfumato.engine.autoencode import to_pixels
from sfumato.engine.image import fit, flatten, lanczos
from sfumato.engine.memory import require_room
from sfumato.engine.passes import Pass, change_plan
from sfumato.engine.planning import Planner
from sfumato.engine.upscale.image import upscale_to
from sfumato.engine.variants import extra_channels
from sfumato.errors import InvalidRequest, NotFound
from sfumato.picture import open_image
from sfumato.request import Img2Img


class Sources:
    """The source pictures of a request, and the pass that changes them.

    Args:
        request: has at least one source.
        planner: of the request.

    Attributes:
        plan: the noise levels of the pass.
        codec: of the model.

    Raises:
        InvalidRequest: there is no source, or the strength leaves nothing to sample.
        CorruptFile, UnsafeFile, Unsupported: a source cannot be read.
    """

    def __init__(self, request: Img2Img, planner: Planner) -> None:
        if not request.init_images:
            raise InvalidRequest("Image-to-image needs a source picture.", advice="Give at least one.")
        self._request = request
        self._planner = planner
        self.codec = planner.codec(planner.model)
        self.plan = change_plan(
            request,
            planner.model,
            planner.sampler,
            planner.scheduler,
            request.denoising_strength,
            fix_steps=request.fix_steps,
        )
        self._pictures = [self._opened(data) for data in request.init_images]
        # One pass for each size: prompts are encoded once for all pictures that share it.
        self._pass = cache(self._plan)

    def alike(self, indices: Sequence[int]) -> Iterator[Sequence[int]]:
        """Split pictures into runs that may be sampled together: those whose results have one size."""
        if self._planner.model.spec.variant != "base":
            # What such a model sees beside the latents belongs to one picture.
            yield from ((index,) for index in indices)
            return
        latent = self._request.resize_mode == "latent"
        for _, run in groupby(map(self._picture, indices), lambda picture: (self._size(picture), latent and picture.size)):
            count = sum(1 for _ in run)
            yield indices[:count]
            indices = indices[count:]

    def change(self, indices: Sequence[int]) -> tuple[Pass, Tensor]:
        """The pass of some pictures of one size, and the latents [b, c, h, w] that it starts from."""
        pictures = [self._picture(index) for index in indices]
        width, height = self._size(pictures[0])
        require_room(self._request, self._planner.model, width, height)
        resized = [self._resized(picture, width, height) for picture in pictures]
        latents = self.codec.encode(resized)
        cell = self._planner.model.spec.vae.downsampling
        if self._request.resize_mode == "latent":
            latents = F.interpolate(latents, size=(height // cell, width // cell), mode="bilinear")
        if self._planner.model.spec.variant == "base":
            return self._pass(width, height), latents
        source = to_pixels([lanczos(picture, width, height) for picture in pictures])
        extra = extra_channels(self._planner.model, height, width, source)
        return self._planner.change(self.plan, width, height, extra), latents

    def _plan(self, width: int, height: int) -> Pass:
        return self._planner.change(self.plan, width, height, extra_channels(self._planner.model, height, width))

    def _picture(self, index: int) -> Image.Image:
        """The source of picture `index`: they are taken in turn."""
        return self._pictures[index % len(self._pictures)]

    def _opened(self, data: bytes | str) -> Image.Image:
        if isinstance(data, str):
            raise NotFound(f"The source picture {data} is known by its hash only.", advice="Give the picture itself.")
        return flatten(open_image(data), self._request.background_color)

    def _size(self, picture: Image.Image) -> tuple[int, int]:
        """Width and height of the result in pixels, whole latent cells."""
        factor, cell = self._request.scale_by, self._planner.model.spec.vae.downsampling
        if not factor:
            return self._request.width // cell * cell, self._request.height // cell * cell
        return max(int(picture.width * factor) // cell, 1) * cell, max(int(picture.height * factor) // cell, 1) * cell

    def _resized(self, picture: Image.Image, width: int, height: int) -> Image.Image:
        mode = self._request.resize_mode
        if mode == "latent":
            cell = self._planner.model.spec.vae.downsampling
            return picture.crop((0, 0, max(picture.width // cell, 1) * cell, max(picture.height // cell, 1) * cell))
        if not self._request.upscaler:
            return fit(picture, width, height, mode)
        upscaler = self._planner.material.upscaler(self._request.upscaler)
        return fit(picture, width, height, mode, lambda image, w, h: upscale_to(image, w, h, upscaler))
