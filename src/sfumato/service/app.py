"""The composition root: folders, library, models and engine, wired together."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.errors import InvalidRequest, NotFound
from sfumato.events import Event, PhaseChanged
from sfumato.infotext import Facts, build
from sfumato.picture import read, to_record
from sfumato.request import Img2Img, Txt2Img, resolve_seeds
from sfumato.service.folders import Folders
from sfumato.service.generated import GeneratedImage
from sfumato.service.hashing import Hasher
from sfumato.service.library import Library, ModelEntry
from sfumato.service.models import Choice, Models
from sfumato.styles import apply_styles, load_styles

if TYPE_CHECKING:
    from sfumato.engine.checkpoint.hashes import HashCache
    from sfumato.engine.pipeline import Picture
    from sfumato.train.report import Progress
    from sfumato.train.starter.evaluate import Row

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif"})


class App:
    """One installation, ready to work in this process. Making one loads neither torch nor a model.

    Args:
        data_dir: folder of models, outputs and settings; the checkout by default.
        models_dir: folder of the models where it lies elsewhere.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto", "fp32", "fp16" or "bf16".
        memory: "auto", "high", "medium" or "low".
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        models_dir: Path | str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        memory: str = "auto",
    ) -> None:
        self.folders = Folders.under(data_dir, models_dir)
        self.library = Library(self.folders, self._known_hash)
        self._device, self._dtype, self._memory = device, dtype, memory

    def generate(self, request: Txt2Img | Img2Img) -> Iterator[Event | GeneratedImage]:
        """Make the pictures of a request: events as they happen, each picture when it is done. Closing cancels.

        Raises:
            SfumatoError: one of `sfumato.errors`, with advice.
        """
        request = self._resolved(request)
        choice = self.models_in_memory.choose(request.model, request.vae)
        later = (request.refiner_checkpoint, request.hr_checkpoint if isinstance(request, Txt2Img) else "")
        for name in filter(None, later):
            self.library.find(name)  # better now than after half of the steps
        if not request.model:
            # So that the picture's record still means the same model when there are others.
            request = request.model_copy(update={"model": choice.checkpoint.name})
        yield PhaseChanged("load")
        from sfumato.engine.pipeline import Picture, stream

        # Files are hashed while the model works; the text of the first picture waits for that.
        hashes = self._hasher.start(choice.checkpoint.path), self._hasher.start(choice.vae)
        with self.models_in_memory.working(request, choice) as material:
            for item in stream(request, material):
                yield self._finished(item, request, choice, hashes) if isinstance(item, Picture) else item

    def _finished(
        self, picture: Picture, request: Txt2Img | Img2Img, choice: Choice, hashes: tuple[Future[str], Future[str]]
    ) -> GeneratedImage:
        facts = self._facts(request, choice, (hashes[0].result(), hashes[1].result()), picture)
        return GeneratedImage(
            index=picture.index,
            seed=picture.seed,
            image=picture.image,
            infotext=build(request, facts, picture.index),
            record=to_record(request, picture.index),
            steps=picture.steps,
            animated=request.keep_steps == "animation",
            origin="composite" if isinstance(request, Img2Img) else "generated",
        )

    def models(self) -> tuple[ModelEntry, ...]:
        """The models in the folders: checkpoints, VAEs, TAESD files."""
        return tuple(entry for kind in ("checkpoint", "vae", "taesd") for entry in self.library.entries(kind))

    def inspect(self, path: Path) -> dict[str, Any]:
        """What a picture, checkpoint or network file is, as plain data; nothing in it is trusted.

        Raises:
            NotFound, CorruptFile, UnsafeFile, Unsupported: with the reason.
        """
        if path.suffix.lower() in PICTURES:
            info = read(path)
            facts = dataclasses.asdict(info)
            return {"kind": "picture", **facts, "parameters": dict(info.parameters)}
        from sfumato.engine.checkpoint.inspect import inspect

        report = inspect(path)
        facts = {key: value for key, value in dataclasses.asdict(report).items() if key != "path"}
        return {**facts, "hashes": report.hashes(self._hash_cache)}

    def convert(self, source: Path, target: Path, *, layout: str, dtype: str | None, vae: Path | None) -> Path:
        """Write a model in another layout or precision; answers with where it lies.

        Raises:
            InvalidRequest: no such layout or precision.
            NotFound, CorruptFile, UnsafeFile, Unsupported, DiskFull: with the reason.
        """
        import torch

        from sfumato.engine.checkpoint.save import convert

        dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
        if dtype is not None and dtype not in dtypes:
            raise InvalidRequest(f"There is no precision {dtype!r}.", advice=f"Use one of: {', '.join(dtypes)}.")
        if layout not in ("single", "diffusers"):
            raise InvalidRequest(f"There is no layout {layout!r}.", advice="Use single or diffusers.")
        convert(source, target, layout="single" if layout == "single" else "diffusers", dtype=dtypes.get(dtype or ""), vae=vae)
        return target

    def train(
        self, recipe: str, *, folder: Path | None, changes: Mapping[str, str], stop: Callable[[], bool]
    ) -> Iterator[Progress]:
        """Run a training recipe, or go on with it; see `service.training.train`."""
        from sfumato.service.training import train

        return train(recipe, self.folders, folder=folder, changes=changes, device=self._device, stop=stop)

    def evaluate(
        self, model: str, *, prompts: int, seeds: int, steps: int, guidance: float, sampler: str, size: int
    ) -> Iterator[Row]:
        """Measure how well a checkpoint knows the starter world; see `service.evaluation.evaluate`."""
        from sfumato.service.evaluation import evaluate

        return evaluate(
            model,
            self.folders,
            self.library,
            device=self._device,
            prompts=prompts,
            seeds=seeds,
            steps=steps,
            guidance=guidance,
            sampler=sampler,
            size=size,
        )

    def output_folder(self, kind: str) -> Path:
        """Where pictures of "txt2img" or "img2img" go when nothing else was said."""
        return self.folders.outputs / f"{kind}-images"

    @cached_property
    def models_in_memory(self) -> Models:
        """The models that jobs have loaded."""
        return Models(self.library, device=self._device, precision=self._dtype, memory=self._memory)

    @cached_property
    def _hash_cache(self) -> HashCache:
        from sfumato.engine.checkpoint.hashes import HashCache

        return HashCache(self.folders.cache / "hashes.json")

    @cached_property
    def _hasher(self) -> Hasher:
        return Hasher(self._hash_cache)

    def _known_hash(self, path: Path) -> str | None:
        return self._hash_cache.known(path)

    def _facts(self, request: Txt2Img | Img2Img, choice: Choice, hashes: tuple[str, str], picture: Picture) -> Facts:
        from sfumato.engine.sampling.samplers import resolve, samplers

        sampler, _ = resolve(request.sampler, request.scheduler)
        source: bytes | str = b""
        known = dict(picture.facts)
        if isinstance(request, Img2Img):
            source = request.init_images[picture.index % len(request.init_images)]
            # It may follow from the source.
            known["Size"] = f"{picture.image.width}x{picture.image.height}"
        return Facts(
            model=choice.checkpoint.name,
            model_hash=hashes[0],
            vae=choice.vae.name if choice.vae else "",
            vae_hash=hashes[1],
            extra=known,
            uses_ensd=samplers[sampler].uses_ensd,
            init_image_hash=_md5(source) if isinstance(source, bytes) and source else "",
        )

    def _resolved(self, request: Txt2Img | Img2Img) -> Txt2Img | Img2Img:
        """The request with seeds drawn, samplers under their names, and styles merged into the prompts."""
        from sfumato.engine.sampling.samplers import resolve

        request = resolve_seeds(request, random.SystemRandom())
        sampler, scheduler = resolve(request.sampler, request.scheduler)
        update: dict[str, object] = {"sampler": sampler, "scheduler": scheduler}
        if request.styles:
            styles = load_styles(self.folders.styles)
            unknown = set(request.styles) - {style.name for style in styles}
            if unknown:
                raise NotFound(
                    f"There is no style {', '.join(map(repr, sorted(unknown)))}.",
                    advice=f"The styles are in {self.folders.styles}: {', '.join(style.name for style in styles) or 'none'}.",
                )
            merged = apply_styles(styles, request.styles, request.prompt, request.negative_prompt)
            update |= {"prompt": merged[0], "negative_prompt": merged[1], "styles": ()}
        return request.model_copy(update=update)


def _md5(data: bytes) -> str:
    """What A1111 identifies a source picture by."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
