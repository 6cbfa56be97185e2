"""One way in: whatever the container, a table of tensors comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sfumato.engine.checkpoint.family import VAE, families, family_of
from sfumato.engine.checkpoint.folder import read_folder, read_vae_folder
from sfumato.engine.checkpoint.hints import Hints, hints_beside, hints_from_markers, hints_from_metadata
from sfumato.engine.checkpoint.keys import vae_from_diffusers
from sfumato.engine.checkpoint.native import to_native, vae_to_native
from sfumato.engine.checkpoint.pickle_reader import read_pickle_table
from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.engine.checkpoint.sniff import sniff
from sfumato.engine.checkpoint.table import TensorTable
from sfumato.errors import CorruptFile, Unsupported


@dataclass(frozen=True, slots=True)
class Source:
    """A model that has been opened: its tensors under native names, and what is known of it besides."""

    table: TensorTable
    hints: Hints

    def with_vae(self, donor: Source) -> Source:
        """The same model with another's autoencoder; CorruptFile where that has none."""
        hints = replace(self.hints, vae_norm_num_groups=donor.hints.vae_norm_num_groups)
        return Source(_with_parts(self.table, donor.table, (VAE,)), hints)

    def with_text(self, donor: Source) -> Source:
        """The same model with another's text encoders; CorruptFile where that has none."""
        prefixes = tuple(encoder.prefix for encoder in families[family_of(donor.table)].encoders)
        theirs = donor.hints
        hints = replace(
            self.hints, text_heads=theirs.text_heads, text_skip=theirs.text_skip, text_activation=theirs.text_activation
        )
        return Source(_with_parts(self.table, donor.table, prefixes), hints)


def _with_parts(table: TensorTable, donor: TensorTable, prefixes: tuple[str, ...]) -> TensorTable:
    """The table with everything below the prefixes taken from another one."""
    kept = {name: tensor for name, tensor in table.items() if not name.startswith(prefixes)}
    given = {name: tensor for name, tensor in donor.items() if name.startswith(prefixes)}
    if not given:
        raise CorruptFile(f"{donor.path.name} holds nothing below {prefixes[0]!r}.", advice="It is not what was asked for.")
    return table.replaced(kept | given)


def open_table(path: Path) -> TensorTable:
    """The tensors of a weights file under the names it gives them.

    Raises:
        NotFound, CorruptFile, UnsafeFile, Unsupported: as `sniff`, `read_safetensors` and `read_pickle_table` say.
    """
    container = sniff(path)
    if container == "folder":
        raise Unsupported(f"{path} is a folder.", advice="Give a file.")
    return read_safetensors(path) if container == "safetensors" else read_pickle_table(path)


def open_model(path: Path, *, ema: bool | None = None) -> Source:
    """A checkpoint or diffusers folder, its tensors under native names.

    Args:
        path: the file or folder.
        ema: averaged weights, plain ones, or (None) those that the yaml beside the file asks for, plain ones by default.
    """
    if sniff(path) == "folder":
        return Source(*read_folder(path))
    table = open_table(path)
    beside = hints_beside(path)
    hints = beside.over(hints_from_metadata(table.metadata)).over(hints_from_markers(table))
    return Source(to_native(table, ema=bool(hints.use_ema) if ema is None else ema), hints)


def open_vae(path: Path) -> Source:
    """An autoencoder: a file of its own, with any of the known spellings, a whole checkpoint's, or a diffusers folder's."""
    if path.is_dir():
        return Source(*read_vae_folder(path))
    table = open_table(path)
    hints = hints_from_metadata(table.metadata)
    if any("down_blocks." in name for name in table):
        return Source(vae_to_native(table.replaced(vae_from_diffusers(table))), hints)
    return Source(vae_to_native(table), hints)
