"""From a request to pictures: the whole story, to be read from top to bottom."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from sfumato.engine.autoencode import Codec
from sfumato.engine.changes import Sources
from sfumato.engine.hires import Hires
from sfumato.engine.material import Material
from sfumato.engine.memory import advised
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.passes import Pass, expected_steps, sample
from sfumato.engine.planning import Planner
from sfumato.engine.sampling.facts import facts
from sfumato.engine.sampling.plan import SamplingPlan
from sfumato.engine.tiling import tiled
from sfumato.engine.watch import Watch
from sfumato.events import Event, Finished, ImageDone, PhaseChanged, Started, Warned
from sfumato.request import Img2Img, Txt2Img, require_available, resolve_seeds


@dataclass(frozen=True, eq=False)
class Picture:
    """One finished picture.

    Attributes:
        index: its number in the request, from 0.
        seed, subseed: that it was made from.
        image: RGB.
        steps: pictures of its steps, if the request keeps them.
        facts: what sampler and schedule really did, under A1111's keys for the parameters text.
    """

    index: int
    seed: int
    subseed: int
    image: Image.Image
    steps: tuple[Image.Image, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)


def generate(
    request: Txt2Img | Img2Img, model: DiffusionModel | Material, *, on_event: Callable[[Event], object] | None = None
) -> list[Picture]:
    """Make the pictures that a request asks for.

    Args:
        request: what to make; seeds of -1 are drawn now.
        model: a loaded model, or `Material` where the request needs more than one.
        on_event: is told what happens; what it raises stops the work.

    Raises:
        SfumatoError: one of `sfumato.errors`, with advice.
    """
    pictures: list[Picture] = []
    for item in stream(request, model if isinstance(model, Material) else Material(model)):
        if isinstance(item, Picture):
            pictures.append(item)
        elif on_event:
            on_event(item)
    return pictures


def stream(request: Txt2Img | Img2Img, material: Material) -> Iterator[Event | Picture]:
    """The same, as it happens: events between steps, each picture when it is done.

    Close the iterator to cancel: at the next step everything is left as it was.
    """
    require_available(request)
    request = resolve_seeds(request, random.SystemRandom())
    with ExitStack() as borrowed, advised(request):
        material = tiled(material, borrowed) if request.tiling else material
        planner = Planner(request, material)
        watch = Watch(request, material)
        yield from (Warned(text) for text in planner.warnings)
        yield from watch.opening()
        if isinstance(request, Txt2Img):
            yield from _from_words(request, planner, watch)
        else:
            yield from _from_pictures(request, planner, watch)
    yield Finished()


def _from_words(request: Txt2Img, planner: Planner, watch: Watch) -> Iterator[Event | Picture]:
    first = planner.new()
    hires = Hires(request, planner) if request.enable_hr else None
    yield Started(request.images, request.images * (first.steps + (hires.steps if hires else 0)))
    plans = (first.plan, hires.second.plan) if hires else (first.plan,)
    yield PhaseChanged("encode")
    first.drive.encode()
    for indices in planner.batches(*(plan.sampler for plan in plans)):
        yield PhaseChanged("sample", indices[0])
        latents = yield from _sampled(first, indices, watch)
        model = first.drive.model
        if hires:
            yield PhaseChanged("hires", indices[0])
            latents = yield from _sampled(hires.second, indices, watch, hires.enlarged(latents, model))
            model = hires.second.drive.model
        yield from _finished(request, planner.codec(model), indices, latents, watch, _facts(*plans))


def _from_pictures(request: Img2Img, planner: Planner, watch: Watch) -> Iterator[Event | Picture]:
    sources = Sources(request, planner)
    yield Started(request.images, request.images * expected_steps(sources.plan))
    for indices in planner.batches(sources.plan.sampler):
        for group in sources.alike(indices):
            yield PhaseChanged("encode", group[0])
            change, latents = sources.change(group)
            change.drive.encode()
            yield PhaseChanged("sample", group[0])
            latents = yield from _sampled(change, group, watch, latents)
            yield from _finished(request, sources.codec, group, latents, watch, facts(sources.plan))


def _sampled(pass_: Pass, indices: Sequence[int], watch: Watch, latents: Tensor | None = None) -> Generator[Event, None, Tensor]:
    """Run a pass over some pictures; returns their latents."""
    result = latents
    for step in sample(pass_, indices, latents):
        result = step.x
        yield from watch.seen(pass_.drive.model, step, pass_.steps, indices)
    assert result is not None, "a plan has at least one step"
    return result


def _facts(first: SamplingPlan, second: SamplingPlan | None = None) -> dict[str, object]:
    """What both passes did; the second one's schedule is told only where it is another."""
    known: dict[str, object] = dict(facts(first))
    key = "Hires schedule type"
    if second is not None and (found := facts(second, second_pass=True).get(key)) not in (None, known.get("Schedule type")):
        known[key] = found
    return known


def _finished(
    request: Txt2Img | Img2Img,
    codec: Codec,
    indices: Sequence[int],
    latents: Tensor,
    watch: Watch,
    known: Mapping[str, object],
) -> Iterator[Event | Picture]:
    """Decode latents, picture by picture."""
    for row, index in enumerate(indices):
        yield PhaseChanged("decode", index)
        (image,) = codec.decode(latents[row : row + 1])
        seed, subseed = request.image_seeds(index)
        yield Picture(index, seed, subseed, image, watch.frames(index), known)
        yield ImageDone(index, seed)
