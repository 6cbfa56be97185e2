"""The models in memory: loaded when a job needs them, kept as long as there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.request import Generation, Txt2Img
from sfumato.service.library import Library, ModelEntry

if TYPE_CHECKING:
    from sfumato.engine.material import Material
    from sfumato.engine.models.diffusion import DiffusionModel
    from sfumato.engine.models.taesd import TinyDecoder, TinyEncoder
    from sfumato.engine.residency import MemoryPlan


@dataclass(frozen=True, slots=True)
class Choice:
    """Which files a model comes from."""

    checkpoint: ModelEntry
    vae: Path | None


class Models:
    """Loads models for jobs and keeps the latest ones.

    Args:
        library: where they are found.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "fp16" or "bf16".
        memory: "auto", "high", "medium" or "low".
        half_vae: the autoencoder may compute in half precision where the device is good at it.

    Raises:
        InvalidRequest: one of the words is not known.
        Unsupported: the device is not there.
    """

    def __init__(
        self, library: Library, *, device: str = "auto", precision: str = "auto", memory: str = "auto", half_vae: bool = True
    ) -> None:
        from sfumato.engine.device import choose_device, choose_dtypes, facts_of

        self._library = library
        self._device = choose_device(device)
        self._dtypes = partial(choose_dtypes, facts_of(self._device), precision, half_vae=half_vae)  # type: ignore[arg-type]
        self._dtypes()
        self._memory = memory
        self._kept = 1
        self._loaded: OrderedDict[tuple[tuple[Path, int], ...], DiffusionModel] = OrderedDict()

    def choose(self, model: str, vae: str) -> Choice:
        """The files that a model name and a VAE name stand for.

        Raises:
            NotFound: naming what there is.
        """
        checkpoint = self._library.find(model)
        if vae == "Automatic":
            return Choice(checkpoint, self._library.vae_beside(checkpoint.path))
        return Choice(checkpoint, None if vae == "None" else self._library.find(vae, "vae").path)

    def load(self, choice: Choice) -> DiffusionModel:
        """The model, from memory or from its files. What is dropped for it is the one that was not used for longest."""
        path = choice.checkpoint.path
        key = tuple((file, file.stat().st_mtime_ns) for file in (path, choice.vae) if file)
        if key not in self._loaded:
            # Make room first: two models at once are what machines run out of memory by.
            self._drop(len(self._loaded) - self._kept + 1)
            self._loaded[key] = self._read(path, choice.vae)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def _drop(self, count: int) -> None:
        """Forget the models that were not used for longest, and give their memory back to the system."""
        if count < 1:
            return
        from sfumato.engine.process import release_memory

        for _ in range(count):
            self._loaded.popitem(last=False)
        release_memory()

    def _read(self, path: Path, vae: Path | None) -> DiffusionModel:
        """A model in the number formats of the device, in main memory until it works."""
        from sfumato.engine.checkpoint.load import load

        model = load(path, dtype=self._dtypes().unet, device="cpu", vae=vae)
        model.vae.to(self._dtypes(family=model.spec.family).vae)
        return model

    @contextmanager
    def working(self, request: Generation, choice: Choice) -> Iterator[Material]:
        """What the engine needs for a request: models that are at the device, whole or part by part, for the length of a job."""
        from sfumato.engine.material import Material

        model = self.load(choice)
        plan = self._plan(model, request)
        chosen = "TAESD" in (request.vae_encoder, request.vae_decoder)
        wanted = chosen or request.preview == "taesd" or request.keep_steps != "none"
        taesd = self._taesd(model.spec.family) if wanted else None
        with ExitStack() as at_device:

            def another(name: str) -> DiffusionModel:
                # Beside the first one, for hires fix or refiner: both are needed for the length of the job.
                self._kept = max(self._kept, 2)
                return self._bring(self.load(self.choose(name, request.vae)), plan, at_device)

            yield Material(self._bring(model, plan, at_device), load=another, taesd=taesd, strips=plan.strips)

    def _plan(self, model: DiffusionModel, request: Generation) -> MemoryPlan:
        from sfumato.engine.residency import Weights, choose_plan, free_memory

        width, height = request.hires_sizes.final if isinstance(request, Txt2Img) else (request.width, request.height)
        cpu = self._device.type == "cpu"
        return choose_plan(
            # On the CPU the weights are where they compute: what is free is free beside them.
            Weights(0, 0, 0) if cpu else Weights.of(model),
            free_memory(self._device),
            device=self._device.type,
            asked=self._memory,
            pixels=width * height * (1 if cpu else request.batch_size),
            number_bytes=self._dtypes().unet.itemsize,
        )

    def _bring(self, model: DiffusionModel, plan: MemoryPlan, at_device: ExitStack) -> DiffusionModel:
        """The model where it computes, until the stack is closed; a model that is there already is left alone."""
        from sfumato.engine.models.layers import kept_filters
        from sfumato.engine.residency import visiting

        if self._device.type == "cpu":
            at_device.enter_context(kept_filters(model.unet, plan.filters))
        elif next(model.unet.parameters()).device != self._device:
            at_device.enter_context(visiting(model, plan, self._device))
        return model

    def _taesd(self, family: str) -> tuple[TinyEncoder, TinyDecoder] | None:
        """The small encoder and decoder of a family, if both files are in their folder."""
        from sfumato.engine.checkpoint.taesd import load_taesd
        from sfumato.engine.models.taesd import TinyDecoder, TinyEncoder

        name = "taesdxl" if family.startswith("sdxl") else "taesd"
        files = {entry.path.stem.lower(): entry.path for entry in self._library.entries("taesd")}
        encoder, decoder = files.get(f"{name}_encoder"), files.get(f"{name}_decoder")
        if encoder is None or decoder is None:
            return None
        return (
            load_taesd(encoder, TinyEncoder, dtype=self._dtypes().vae, device=self._device),
            load_taesd(decoder, TinyDecoder, dtype=self._dtypes().vae, device=self._device),
        )
