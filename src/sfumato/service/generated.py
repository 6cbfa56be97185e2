"""A finished picture with all that belongs to it, ready to be saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.files import write_atomic
from sfumato.picture import Origin, animate, encode, format_of, strip

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class GeneratedImage:
    """One picture of a job.

    Attributes:
        index: its place in the job, from 0.
        seed: that repeats it.
        image: RGB.
        infotext: A1111's parameters text.
        record: our own lossless record of the request.
        steps: pictures of its steps, if they were asked for.
        animated: the steps are kept as an animation rather than a strip.
        origin: "generated", or "composite" where a source picture was changed.
    """

    index: int
    seed: int
    image: Image.Image
    infotext: str
    record: Mapping[str, object]
    steps: tuple[Image.Image, ...] = ()
    animated: bool = False
    origin: Origin = "generated"

    def save(self, path: Path | str, *, replace: bool = True) -> Path:
        """Write the picture with its parameters, in the format that the ending of `path` names; the steps go beside it.

        Returns:
            Where it is: with another ending where the wanted format could not hold it.

        Raises:
            InvalidRequest: the ending names no format.
            FileExistsError: the name is taken and `replace` is false.
            DiskFull: no room is left; nothing of a file stays behind.
        """
        path = Path(path)
        encoded = encode(self.image, format_of(path.suffix), infotext=self.infotext, record=self.record, origin=self.origin)
        if encoded.format != format_of(path.suffix):
            path = path.with_suffix(encoded.extension)
        write_atomic(path, encoded.data, replace=replace)
        if self.steps:
            self._save_steps(path)
        return path

    def _save_steps(self, path: Path) -> None:
        from PIL import ImageOps

        # Those of a first pass are smaller, and what the second one cuts off is still there.
        frames = [*(ImageOps.fit(step, self.image.size) for step in self.steps), self.image]
        kept = animate(frames, infotext=self.infotext) if self.animated else encode(strip(frames), infotext=self.infotext)
        write_atomic(path.with_name(f"{path.stem}-steps{kept.extension}"), kept.data)
