"""Encoded prompts against transformers and diffusers on the same random weights."""

import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.embeddings import Timesteps
from tests.engine.prompt.models import BIG, CLIP, SIZE_WIDTH, small_model
from tests.parity.oracle import assert_same
from tests.parity.test_text import pair

from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.prompt.encode import EncodeOptions, PromptEncoder, Sizes

TEXT = "A photo of a red fox, jumping over 2 lazy dogs; highly-detailed"


class Ids(dict):
    """What transformers' tokenizers return."""

    __getattr__ = dict.__getitem__


class PaddingTokenizer:
    """Our tokenizer with transformers' interface, as far as the pipelines use it. `test_tokenizer` compares the tokenizers."""

    model_max_length = 77
    added_tokens_encoder = {}  # noqa: RUF012 - never changed

    def __init__(self, padding: int) -> None:
        self.padding = padding

    def tokenize(self, text):
        return []  # asked for only to find textual inversions

    def __call__(self, texts, padding, **options):
        texts = [texts] if isinstance(texts, str) else texts
        rows = [[Tokenizer.bos, *Tokenizer().encode(text), Tokenizer.eos] for text in texts]
        width = 77 if padding == "max_length" else max(map(len, rows))
        return Ids(input_ids=torch.tensor([row + [self.padding] * (width - len(row)) for row in rows]))


def adopted(family: str, seed: int):
    """A model of ours and transformers' encoders with the same weights."""
    model = small_model(family)
    configs = {"sd1": [CLIP], "sd2": [BIG], "sdxl": [CLIP, BIG], "refiner": [BIG]}[family]
    theirs = []
    for number, (encoder, config) in enumerate(zip(model.text_encoders, configs, strict=True)):
        source, oracle = pair(config, seed + number)
        encoder.load_state_dict(source.state_dict())
        theirs.append(oracle)
    return model, theirs


def unet(width: int, adm: int) -> UNet2DConditionModel:
    """A UNet of diffusers that is only asked for its configuration."""
    return UNet2DConditionModel(
        block_out_channels=(32,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        cross_attention_dim=width,
        addition_embed_type="text_time",
        addition_time_embed_dim=SIZE_WIDTH,
        projection_class_embeddings_input_dim=adm,
        norm_num_groups=8,
    )


def test_sd1(seed):
    model, (text_encoder,) = adopted("sd1", seed)
    tokenizer, scheduler = PaddingTokenizer(Tokenizer.eos), EulerDiscreteScheduler(steps_offset=1)
    pipeline = StableDiffusionPipeline(None, text_encoder, tokenizer, None, scheduler, None, None, requires_safety_checker=False)
    want, _ = pipeline.encode_prompt(TEXT, "cpu", 1, False)
    got = PromptEncoder(model, Tokenizer()).encode(TEXT)
    assert_same(got.hidden, want[0])
    assert got.vector is None


@pytest.mark.parametrize(("family", "skip"), [("sd1", 2), ("sd1", 3), ("sd2", 1)])
def test_final_norm_behind_the_chosen_layer(family, skip, seed):
    model, (text_encoder,) = adopted(family, seed)
    tokens = PaddingTokenizer(Tokenizer.eos if family == "sd1" else 0)(TEXT, "max_length").input_ids
    hidden = text_encoder(tokens, output_hidden_states=True).hidden_states[-skip if family == "sd1" else -2]
    final = getattr(text_encoder, "text_model", text_encoder).final_layer_norm
    assert_same(PromptEncoder(model, Tokenizer(), EncodeOptions(clip_skip=skip)).encode(TEXT).hidden, final(hidden)[0])


@pytest.mark.parametrize("negative", [None, "rain, fog"])
def test_sdxl(seed, negative):
    model, (first, second) = adopted("sdxl", seed)
    pipeline = StableDiffusionXLPipeline(
        None,
        first,
        second,
        PaddingTokenizer(Tokenizer.eos),
        PaddingTokenizer(0),
        unet(64, 32 + 6 * SIZE_WIDTH),
        EulerDiscreteScheduler(steps_offset=1),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    want = pipeline.encode_prompt(TEXT, device="cpu", do_classifier_free_guidance=True, negative_prompt=negative)
    sizes = Sizes((768, 512), (1024, 640), crop=(8, 16))
    ids = pipeline._get_add_time_ids(sizes.original, sizes.crop, sizes.target, torch.float32, 32)
    times = Timesteps(SIZE_WIDTH, flip_sin_to_cos=True, downscale_freq_shift=0)(ids.flatten()).flatten()
    prompts = PromptEncoder(model, Tokenizer(), EncodeOptions(sizes=sizes))
    for got, hidden, pooled in (
        (prompts.encode(TEXT), want[0], want[2]),
        (prompts.encode(negative or "", negative=True), want[1], want[3]),
    ):
        if hidden.any():
            assert_same(got.hidden, hidden[0])
        else:
            assert torch.equal(got.hidden, hidden[0])
        assert_same(got.vector, torch.cat([pooled[0], times]))


def test_refiner(seed):
    model, (text_encoder,) = adopted("refiner", seed)
    pipeline = StableDiffusionXLImg2ImgPipeline(
        None,
        None,
        text_encoder,
        None,
        PaddingTokenizer(0),
        unet(40, 32 + 5 * SIZE_WIDTH),
        EulerDiscreteScheduler(steps_offset=1),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    want = pipeline.encode_prompt(TEXT, device="cpu", do_classifier_free_guidance=True, negative_prompt="rain")
    sizes = Sizes.plain(768, 512, crop=(8, 16))
    ids = pipeline._get_add_time_ids(
        sizes.original, sizes.crop, sizes.target, 6.0, 2.5, sizes.original, sizes.crop, sizes.target, torch.float32, 32
    )
    prompts = PromptEncoder(model, Tokenizer(), EncodeOptions(sizes=sizes))
    encoded = (prompts.encode(TEXT), prompts.encode("rain", negative=True))
    for got, hidden, pooled, numbers in zip(encoded, want[:2], want[2:], ids, strict=True):
        times = Timesteps(SIZE_WIDTH, flip_sin_to_cos=True, downscale_freq_shift=0)(numbers.flatten()).flatten()
        assert_same(got.hidden, hidden[0])
        assert_same(got.vector, torch.cat([pooled[0], times]))
