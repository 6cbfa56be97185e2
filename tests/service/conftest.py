"""An installation with small models, shared by all tests of the service."""

import shutil

import pytest
import torch
from tests.tiny import SD1, SDXL, random_model

from sfumato.engine.checkpoint.save import save, save_vae
from sfumato.engine.checkpoint.table import GivenTensor
from sfumato.engine.checkpoint.writer import write_safetensors
from sfumato.engine.models.taesd import TinyDecoder, TinyEncoder


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """Model files, made once: two checkpoints, one of SDXL, a VAE, and a TAESD pair."""
    folder = tmp_path_factory.mktemp("shelf")
    for name, spec, seed in (("alpha", SD1, 0), ("beta", SD1, 1), ("large", SDXL, 2)):
        save(random_model(spec, seed), folder / f"{name}.safetensors", dtype=torch.float16)
    save_vae(random_model(SD1, 9).vae, folder / "other.vae.safetensors", dtype=torch.float16)
    torch.manual_seed(0)
    for part, kind in (("encoder", TinyEncoder), ("decoder", TinyDecoder)):
        tensors = {name: GivenTensor(value) for name, value in kind(channels=8).state_dict().items()}
        write_safetensors(folder / f"taesd_{part}.safetensors", tensors)
    return folder


@pytest.fixture
def place(shelf, tmp_path):
    """A data folder of one's own with the checkpoints "alpha" and "beta" in it."""
    checkpoints = tmp_path / "models" / "Stable-diffusion"
    checkpoints.mkdir(parents=True)
    for name in ("alpha", "beta"):
        link(shelf / f"{name}.safetensors", checkpoints / f"{name}.safetensors")
    return tmp_path


def link(source, target):
    """The same file in another place, without copying where the system can do that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


@pytest.fixture
def put(shelf, place):
    """Puts a file of the shelf into the models folder, under another name if one is given."""

    def put_(name, folder, as_name=None):
        target = place / "models" / folder / (as_name or name)
        link(shelf / name, target)
        return target

    return put_
