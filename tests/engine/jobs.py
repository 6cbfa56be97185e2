"""What the tests of whole jobs share: small models, short requests, and what is to be known of a model before and after."""

import hashlib
from contextlib import contextmanager
from functools import cache

from tests.pictures import gradient, png
from tests.tiny import SPECS, random_model

from sfumato import Img2Img, Txt2Img, generate
from sfumato.engine.models.layers import Conv2d

SIDE = 64


@cache
def model(name="sd1", seed=0):
    """A model that all tests share; they leave it as it was."""
    return random_model(SPECS[name], seed)


def words(**changes):
    """A short text-to-image request."""
    return Txt2Img(
        **{"prompt": "a red circle", "seed": 7, "steps": 3, "width": SIDE, "height": SIDE, "sampler": "Euler a", **changes}
    )


def picture(**changes):
    """A short image-to-image request."""
    source = png(gradient(SIDE, SIDE))
    base = {"prompt": "a red circle", "seed": 7, "steps": 4, "width": SIDE, "height": SIDE, "sampler": "Euler a"}
    return Img2Img(**{**base, "init_images": (source,), "denoising_strength": 0.6, **changes})


def pixels(request, of=None, **more):
    """The pixels of all pictures of a request, as bytes."""
    return [each.image.tobytes() for each in generate(request, of or model(), **more)]


def state(of):
    """A digest of all that a job may touch in a model."""
    digest = hashlib.sha256()
    for name, value in of.state_dict().items():
        digest.update(f"{name}{value.dtype}{value.device}{value.stride()}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    for name, module in of.named_modules():
        digest.update(f"{name}{module.training}{len(module._forward_hooks)}{len(module._forward_pre_hooks)}".encode())
        if isinstance(module, Conv2d):
            digest.update(f"{module.wrap}{module.filters is None}".encode())
    return digest.hexdigest()


@contextmanager
def unet_rows(of):
    """The batch size of every evaluation of the UNet, in order."""
    rows = []
    handle = of.unet.register_forward_pre_hook(lambda module, arguments: rows.append(arguments[0].shape[0]))
    try:
        yield rows
    finally:
        handle.remove()
