"""Linear previews."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.engine.models.config import VAEConfig
from sfumato.engine.models.preview import PREVIEWS, LatentToRGB, fit_latent_to_rgb, fit_to_autoencoder
from sfumato.engine.models.vae import AutoencoderKL, Moments
from sfumato.errors import NotFound


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sdxl-refiner"])
def test_every_family_has_published_factors(family):
    pixels = PREVIEWS[family](torch.randn(2, 4, 6, 5) * 3)
    assert pixels.shape == (2, 3, 6, 5)
    assert float(pixels.abs().max()) <= 1.0
    assert float(pixels.std()) > 0.1


def test_another_family_is_a_clear_miss():
    with pytest.raises(NotFound, match="no preview named 'flux'"):
        PREVIEWS["flux"]


def test_factors_are_sums_of_channels():
    preview = LatentToRGB(((0.5, 0, 0), (0, 0.25, 0), (0, 0, 1), (0.1, 0.1, 0.1)), (0.0, 0.1, -0.2))
    got = preview(torch.tensor([0.5, -1.0, 0.3, 1.0]).reshape(1, 4, 1, 1))
    torch.testing.assert_close(got.flatten(), torch.tensor([0.35, -0.05, 0.2]))


def test_a_linear_relation_is_found_exactly():
    generator = torch.Generator().manual_seed(0)
    factors, bias = torch.randn(4, 3, generator=generator), torch.randn(3, generator=generator)
    latents = torch.randn(3, 4, 5, 6, generator=generator)
    pixels = torch.einsum("bchw,cr->brhw", latents, factors) + bias[:, None, None]
    fitted = fit_latent_to_rgb(latents, pixels.repeat_interleave(8, 2).repeat_interleave(8, 3))
    torch.testing.assert_close(torch.tensor(fitted.factors), factors, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(fitted.bias), bias, rtol=1e-4, atol=1e-5)


class LinearAutoencoder(AutoencoderKL):
    """Its latents are mixtures of the colours, so that colours are mixtures of the latents."""

    mix = torch.tensor([[1.0, 0.5, -0.2], [0.0, 1.0, 0.7], [-0.6, 0.1, 1.0], [0.3, 0.3, 0.3]])

    def encode(self, pixels, **_):
        mean = torch.einsum("brhw,cr->bchw", F.avg_pool2d(pixels, 8), self.mix) + 0.25
        return Moments(mean, torch.zeros_like(mean))


def test_a_fit_to_an_autoencoder_shows_its_colours():
    vae = LinearAutoencoder(VAEConfig(ch=8, norm_num_groups=4))
    fitted = fit_to_autoencoder(vae, pictures=4, side=32)
    pixels = torch.rand(2, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3) * 2 - 1
    shown = fitted(vae.to_latents(vae.encode(pixels).mean))
    torch.testing.assert_close(shown, pixels[..., ::8, ::8], rtol=1e-3, atol=1e-4)


def test_a_fit_repeats_and_takes_any_autoencoder():
    torch.manual_seed(1)
    vae = AutoencoderKL(VAEConfig(ch=8, norm_num_groups=4)).eval()
    fitted = fit_to_autoencoder(vae, pictures=4, side=32)
    assert len(fitted.factors) == 4
    assert fitted == fit_to_autoencoder(vae, pictures=4, side=32)
