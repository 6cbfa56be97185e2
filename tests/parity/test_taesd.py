"""Our TAESD against diffusers' on the same random weights."""

import pytest
import torch
from diffusers import AutoencoderTiny
from tests.parity.oracle import adopt, assert_same, noise, randomise

from sfumato.engine.models.taesd import TinyDecoder, TinyEncoder


@pytest.fixture
def reference(seed):
    return randomise(AutoencoderTiny(encoder_block_out_channels=[16] * 4, decoder_block_out_channels=[16] * 4), seed)


def test_encoding(reference, seed):
    with torch.device("meta"):
        ours = TinyEncoder(channels=16)
    adopt(ours, dict(reference.encoder.layers.state_dict()))
    pixels = noise(2, 3, 40, 64, seed=seed + 1)
    assert_same(ours(pixels), reference.encode(pixels).latents)


def test_decoding(reference, seed):
    with torch.device("meta"):
        ours = TinyDecoder(channels=16)
    # The published files count the clamp as layer 0, which the reference leaves out.
    layers = [name.split(".", 1) for name in reference.decoder.layers.state_dict()]
    tensors = reference.decoder.layers.state_dict()
    adopt(ours, {f"{int(number) + 1}.{rest}": tensors[f"{number}.{rest}"] for number, rest in layers})
    latents = noise(2, 4, 5, 8, seed=seed + 1) * 2
    assert_same(ours(latents), reference.decode(latents).sample)


def test_the_published_size():
    with torch.device("meta"):
        encoder, decoder = TinyEncoder(), TinyDecoder()
    assert sum(p.numel() for p in encoder.parameters()) == 1_222_532
    assert sum(p.numel() for p in decoder.parameters()) == 1_222_531
    assert "19.weight" in decoder.state_dict()
    assert "14.weight" in encoder.state_dict()
