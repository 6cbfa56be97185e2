"""What a generation may reach for besides its request: models by name, upscalers, a small decoder for previews."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sfumato.engine.autoencode import Codec
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.taesd import TinyDecoder, TinyEncoder
from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.upscale.image import UPSCALERS, Upscaler
from sfumato.errors import InvalidRequest, NotFound
from sfumato.request import Generation


def no_other_model(name: str) -> DiffusionModel:
    """The loader of a caller that has one model only.

    Raises:
        NotFound: always.
    """
    raise NotFound(
        f"The model {name!r} was asked for, but only one was given.", advice="Give `generate` a function that loads others."
    )


@dataclass(frozen=True, eq=False)
class Material:
    """The tools of one generation.

    Attributes:
        model: the model that `request.model` stands for, with the VAE that `request.vae` stands for.
        load: gives another model by name (hires checkpoint, refiner); it may keep and drop models as memory allows.
        upscaler: gives an upscaler of pictures by name.
        taesd: small encoder and decoder of the model's latents, where they are at hand.
        tokenizer: of the model.
        strips: decode and encode in strips, for large pictures or little memory.
    """

    model: DiffusionModel
    load: Callable[[str], DiffusionModel] = no_other_model
    upscaler: Callable[[str], Upscaler] = UPSCALERS.__getitem__
    taesd: tuple[TinyEncoder, TinyDecoder] | None = None
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    strips: bool = False

    def codec(self, request: Generation, model: DiffusionModel) -> Codec:
        """What encodes and decodes the latents of `model` as the request chose.

        Raises:
            InvalidRequest: TAESD was chosen and is not at hand.
        """
        if self.taesd is None and "TAESD" in (request.vae_encoder, request.vae_decoder):
            raise InvalidRequest(
                "TAESD was chosen as encoder or decoder, but its files are not at hand for this model.",
                advice="Put taesd_encoder and taesd_decoder (taesdxl_... for SDXL) into models/VAE-approx, or choose Full.",
            )
        encoder, decoder = self.taesd or (None, None)
        return Codec(
            model.vae,
            encoder if request.vae_encoder == "TAESD" else None,
            decoder if request.vae_decoder == "TAESD" else None,
            self.strips,
        )
