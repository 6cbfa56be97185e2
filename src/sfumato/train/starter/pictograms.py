"""Pictograms: small colour pictures of a system font, read once into an atlas and drawn as sprites.

The font is Noto Color Emoji (Debian: `fonts-noto-color-emoji`; SIL Open Font License, pictures Apache-2.0). Its bitmaps
lie in the tables CBLC and CBDT as PNG files of 136 x 128 pixels. Reading it needs fontTools, which only training uses.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.engine.checkpoint.table import GivenTensor
from sfumato.engine.checkpoint.writer import write_safetensors
from sfumato.errors import CorruptFile, NotFound, Unsupported
from sfumato.train.starter.grid import Grid
from sfumato.train.starter.palette import COLOURS, lab_of, to_lab
from sfumato.train.starter.scene import Thing
from sfumato.train.starter.things import local

SIDE = 128
"""Pixels per side of an atlas sprite."""

FONT_PLACES: tuple[str, ...] = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
    "/usr/local/share/fonts/NotoColorEmoji.ttf",
)
"""Where distributions put the font."""

Tier = Literal["core", "more", "held"]
"""Taught first; taught later; never taught, for tests."""


@dataclass(frozen=True, slots=True)
class Pictogram:
    """One entry of the curated list.

    Attributes:
        code: its Unicode code point.
        name: what captions call it.
    """

    code: int
    tier: Tier
    name: str


@cache
def pictograms() -> dict[str, Pictogram]:
    """The curated list by name."""
    text = resources.files("sfumato.train.starter").joinpath("pictograms.tsv").read_text(encoding="utf-8")
    found: dict[str, Pictogram] = {}
    for line in text.splitlines():
        code, tier, name = line.split("\t")
        kind: Tier = "core" if tier == "core" else "held" if tier == "held" else "more"
        found[name] = Pictogram(int(code, 16), kind, name)
    return found


@cache
def names_of(tier: Tier) -> tuple[str, ...]:
    """Names of all pictograms of a tier."""
    return tuple(name for name, entry in pictograms().items() if entry.tier == tier)


@dataclass(frozen=True, eq=False)
class Atlas:
    """Sprites with names.

    Attributes:
        names: of the sprites, in order.
        sprites: [n, 4, SIDE, SIDE] uint8, red, green, blue and alpha; the colours are multiplied by alpha.
    """

    names: tuple[str, ...]
    sprites: Tensor

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def level(self, side: int, device: torch.device) -> Tensor:
        """All sprites at a smaller power of two, [n, 4, side, side] in 0..1; made once per size and device."""
        return _level(self, side, device)

    def index(self, name: str) -> int:
        """Position of a name.

        Raises:
            NotFound: there is no such sprite.
        """
        found = _index(self).get(name)
        if found is None:
            raise NotFound(f"There is no pictogram named {name!r} in the atlas.", advice="See `pictograms.tsv` for the names.")
        return found

    def save(self, path: Path) -> None:
        """Keep the atlas as one file, replaced in one go.

        Raises:
            DiskFull, NotFound: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, {"sprites": GivenTensor(self.sprites)}, metadata={"names": json.dumps(self.names)})


@cache
def visible(atlas: Atlas, tiers: tuple[Tier, ...], behind: tuple[str, ...]) -> tuple[str, ...]:
    """Pictograms of some tiers that stand out before all of the colours in `behind`; all of them where none does."""
    known = [name for name in atlas.names if pictograms()[name].tier in tiers]
    table = _hidden(atlas)
    fitting = [name for name in known if all(table[atlas.index(name)][colour] < 0.16 for colour in behind)]
    return tuple(fitting or known)


@cache
def extent_of(atlas: Atlas, name: str) -> tuple[float, float]:
    """Top and bottom of what is visible of a sprite, -1..1."""
    rows = (atlas.sprites[atlas.index(name), 3] > 100).any(dim=1).nonzero()[:, 0]
    return float(rows[0]) * 2.0 / SIDE - 1.0, float(rows[-1] + 1) * 2.0 / SIDE - 1.0


@cache
def _hidden(atlas: Atlas) -> tuple[dict[str, float], ...]:
    """For every sprite, the share of its pixels that would hardly be seen before each named colour."""
    small = atlas.level(32, torch.device("cpu"))
    opaque = small[:, 3] > 0.5
    lab = to_lab((small[:, :3] / small[:, 3:].clamp(min=1e-3)).permute(0, 2, 3, 1))
    found: list[dict[str, float]] = [{} for _ in atlas.names]
    for colour in COLOURS:
        lost = (lab - lab.new_tensor(lab_of(colour))).norm(dim=-1) < 16.0
        share = (lost & opaque).sum(dim=(1, 2)) / opaque.sum(dim=(1, 2)).clamp(min=1)
        for entry, value in zip(found, share.tolist(), strict=True):
            entry[colour] = value
    return tuple(found)


@cache
def _index(atlas: Atlas) -> dict[str, int]:
    return {name: number for number, name in enumerate(atlas.names)}


@cache
def _level(atlas: Atlas, side: int, device: torch.device) -> Tensor:
    whole = atlas.sprites.float().div_(255.0)
    return F.avg_pool2d(whole, SIDE // side).to(device) if side < SIDE else whole.to(device)


def find_font() -> Path | None:
    """The font, where it is installed."""
    return next((path for place in FONT_PLACES if (path := Path(place)).is_file()), None)


def read_font(path: Path) -> Atlas:
    """Make the atlas from the font.

    Raises:
        Unsupported: fontTools is not installed.
        CorruptFile: the file is no font with colour bitmaps.
    """
    try:
        from fontTools.ttLib import TTFont, TTLibError  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        advice = f"Install it: {sys.executable} -m pip install fonttools"
        raise Unsupported("Reading the font needs fontTools.", advice=advice) from error
    try:
        with path.open("rb") as file, TTFont(file, lazy=True) as font:
            codes = font.getBestCmap() or {}
            strike = font["CBDT"].strikeData[0]
            found = [(p.name, strike[codes[p.code]].imageData) for p in pictograms().values() if codes.get(p.code) in strike]
    except (TTLibError, KeyError, IndexError, AttributeError, OSError) as error:
        raise CorruptFile(f"{path} is not a font with colour bitmaps.", advice="Install fonts-noto-color-emoji.") from error
    return Atlas(tuple(name for name, _ in found), torch.stack([_sprite(data) for _, data in found]))


def _sprite(data: bytes) -> Tensor:
    """PNG bytes -> [4, SIDE, SIDE] uint8 with premultiplied colours, cut to what is visible and centred."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGBA")
    seen = picture.getchannel("A").point(lambda alpha: 255 if alpha > 24 else 0).getbbox()
    picture = picture.crop(seen) if seen else picture
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float()
    pixels[:3] *= pixels[3:] / 255.0
    scale = (SIDE - 2) / max(pixels.shape[1:])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[1:])
    scaled = F.interpolate(pixels[None], size=(height, width), mode="bilinear", antialias=True)[0]
    left, top = (SIDE - width) // 2, (SIDE - height) // 2
    return F.pad(scaled, (left, SIDE - width - left, top, SIDE - height - top)).round().clamp(0, 255).to(torch.uint8)


def load_atlas(cache_file: Path | None = None, *, font: Path | None = None) -> Atlas | None:
    """The atlas from its cache, else from the font, which then fills the cache; None where neither is there.

    Raises:
        CorruptFile: the cache or the font cannot be read.
    """
    if cache_file is not None and cache_file.is_file():
        return _read_cache(cache_file)
    place = font or find_font()
    if place is None:
        return None
    atlas = read_font(place)
    if cache_file is not None:
        atlas.save(cache_file)
    return atlas


def _read_cache(path: Path) -> Atlas:
    table = read_safetensors(path)
    try:
        return Atlas(tuple(json.loads(table.metadata["names"])), table["sprites"].read())
    except (KeyError, json.JSONDecodeError) as error:
        raise CorruptFile(f"{path} is not an atlas of pictograms.", advice="Delete it; it is made anew.") from error


def draw_pictograms(things: Sequence[Thing], grid: Grid, atlas: Atlas | None) -> tuple[Tensor, Tensor]:
    """Draw pictograms.

    Returns:
        colours [n, 3, h, w] (not multiplied by coverage) and coverage [n, h, w].

    Raises:
        NotFound: one of them is not in the atlas, or there is no atlas.
    """
    if atlas is None:
        raise NotFound(f"There is no atlas to draw {things[0].name!r} from.", advice="Install fonts-noto-color-emoji.")
    paint = torch.empty(len(things), 4, grid.height, grid.width, device=grid.device)
    groups: dict[int, list[int]] = {}
    for number, thing in enumerate(things):
        groups.setdefault(_fitting(thing.size * grid.side), []).append(number)
    for side, members in groups.items():
        chosen = [things[number] for number in members]
        x, y, _ = local(chosen, grid)
        sprites = atlas.level(side, grid.device)[[atlas.index(thing.name) for thing in chosen]]
        paint[members] = F.grid_sample(sprites, torch.stack((x, y), dim=-1), mode="bilinear", align_corners=False)
    alpha = paint[:, 3]
    return paint[:, :3] / alpha[:, None].clamp(min=1e-3), alpha


def _fitting(pixels: float) -> int:
    """The sprite size, a power of two, that comes closest to what is drawn without losing detail."""
    return next((side for side in (16, 32, 64) if side >= pixels * 0.9), SIDE)
