"""Encoding: clip skip, emphasis, padding, vector conditions, embeddings, and that nothing depends on its neighbours."""

from dataclasses import replace

import pytest
import torch
from tests.engine.prompt.models import SIZE_WIDTH, SPECS, small_model

from sfumato.engine.models.layers import timestep_embedding
from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.prompt import encode
from sfumato.engine.prompt.chunks import Embedding, EmbeddingTable
from sfumato.engine.prompt.encode import EncodeOptions, PromptEncoder, Sizes
from sfumato.errors import InvalidRequest, Unsupported

TOKENIZER = Tokenizer()
LONG = ", ".join(["a red fox in the snow"] * 20)


@pytest.fixture(scope="module")
def models():
    return {family: small_model(family) for family in SPECS}


def encoder(model, **options):
    return PromptEncoder(model, TOKENIZER, EncodeOptions(**options))


@pytest.mark.parametrize(
    ("family", "width", "adm"), [("sd1", 24, None), ("sd2", 40, None), ("sdxl", 64, 80), ("refiner", 40, 72)]
)
def test_shapes(models, family, width, adm):
    condition = encoder(models[family]).encode("a fox")
    assert condition.hidden.shape == (77, width)
    assert adm == (None if condition.vector is None else len(condition.vector))
    assert not condition.hidden.requires_grad
    assert encoder(models[family]).encode(LONG).hidden.shape == (154, width)


@pytest.mark.parametrize("family", SPECS)
def test_a_text_is_encoded_alike_in_any_company(models, family):
    alone = encoder(models[family]).encode("a (red:1.3) fox")
    among = encoder(models[family])
    among.encode(LONG)
    among.encode("", negative=True)
    again = among.encode("a (red:1.3) fox")
    assert torch.equal(alone.hidden, again.hidden)
    assert family in ("sd1", "sd2") or torch.equal(alone.vector, again.vector)
    assert among.encode("a (red:1.3) fox") is again


def test_chunks_are_encoded_one_by_one_and_once(models, monkeypatch):
    model = models["sd1"]
    (text_encoder,) = model.text_encoders
    batches = []
    forward = type(text_encoder).forward

    def counted(self, tokens, **options):
        batches.append(len(tokens))
        return forward(self, tokens, **options)

    monkeypatch.setattr(type(text_encoder), "forward", counted)
    prompts = encoder(model)
    first, second = prompts.encode("a BREAK b"), prompts.encode("a BREAK c BREAK b")
    assert batches == [1, 1, 1]
    assert torch.equal(first.hidden[77:], second.hidden[154:])
    assert torch.equal(first.hidden, torch.cat([prompts.encode("a").hidden, prompts.encode("b").hidden]))


def test_texts_of_a_timeline_get_empty_chunks(models):
    prompts = encoder(models["sd1"])
    short, long = prompts.encode_all(["a fox", LONG])
    assert short.hidden.shape == long.hidden.shape
    assert torch.equal(short.hidden, torch.cat([prompts.encode("a fox").hidden, prompts.encode("").hidden]))


@pytest.mark.parametrize("skip", [1, 2, 3, 4])
def test_clip_skip(models, skip):
    tokens = torch.tensor([[TOKENIZER.bos, *TOKENIZER.encode("a fox"), *[TOKENIZER.eos] * 74]])
    got = {family: encoder(models[family], clip_skip=skip).encode("a fox").hidden for family in SPECS}
    expected = models["sd1"].text_encoders[0](tokens, skip=skip, final_norm=True).hidden[0]
    assert torch.equal(got["sd1"], expected)
    for family in ("sd2", "sdxl", "refiner"):
        assert torch.equal(got[family], encoder(models[family]).encode("a fox").hidden)
    forced = encoder(models["sdxl"], clip_skip=skip, sdxl_clip_skip=True).encode("a fox").hidden
    assert torch.equal(forced[:, :24], models["sdxl"].text_encoders[0](tokens, skip=skip, final_norm=False).hidden[0])
    assert torch.equal(forced[:, 24:], got["sdxl"][:, 24:])


def test_a_model_that_wants_another_layer_by_itself(models):
    model = small_model("sd1")
    model.spec = replace(model.spec, text=(replace(model.spec.text[0], skip=2),))
    assert torch.equal(encoder(model).encode("a").hidden, encoder(models["sd1"], clip_skip=2).encode("a").hidden)
    assert torch.equal(encoder(model, clip_skip=3).encode("a").hidden, encoder(models["sd1"], clip_skip=3).encode("a").hidden)


def test_clip_skip_out_of_range(models):
    with pytest.raises(InvalidRequest, match=r"too large for a text encoder with 4 layers\. Use 1 to 4"):
        encoder(models["sd1"], clip_skip=5)
    with pytest.raises(InvalidRequest, match="too small"):
        encoder(models["sd1"], clip_skip=0)
    with pytest.raises(InvalidRequest, match="too large"):
        encoder(models["sdxl"], clip_skip=5, sdxl_clip_skip=True)
    assert encoder(models["sd2"], clip_skip=12).encode("a").hidden.shape == (77, 40)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_emphasis(models, family):
    plain = encoder(models[family]).encode("a red fox").hidden
    text = "a (red:1.5) [fox]"
    weights = torch.ones(77, 1)
    weights[2], weights[3] = 1.5, 1 / 1.1
    got = {mode: encoder(models[family], emphasis=mode).encode(text).hidden for mode in ("Original", "No norm", "Ignore")}
    assert torch.equal(got["Ignore"], plain)
    assert torch.equal(got["No norm"], plain * weights)
    assert not torch.allclose(got["Original"], got["No norm"], rtol=1e-4)
    for part in (slice(0, 24), slice(24, None)) if family == "sdxl" else (slice(None),):
        assert torch.allclose(got["Original"][:, part].mean(), plain[:, part].mean(), rtol=1e-4)
        ratio = got["Original"][:, part] / got["No norm"][:, part]
        assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-4)


def test_emphasis_is_of_one_chunk(models):
    prompts = encoder(models["sd1"])
    both = prompts.encode("(a:1.4) BREAK b").hidden
    assert torch.equal(both, torch.cat([prompts.encode("(a:1.4)").hidden, prompts.encode("b").hidden]))


def test_no_emphasis_at_all(models):
    got = encoder(models["sd1"], emphasis="None").encode("(a:1.4) BREAK")
    assert torch.equal(got.hidden, encoder(models["sd1"]).encode("\\(a:1.4\\) B\\REAK").hidden)


def test_padding_of_either_kind(models):
    tokens = [TOKENIZER.bos, *TOKENIZER.encode("a fox"), TOKENIZER.eos]
    for family, padding in (("sd1", TOKENIZER.eos), ("sd2", 0)):
        (text_encoder,) = models[family].text_encoders
        padded = torch.tensor([tokens + [padding] * (77 - len(tokens))])
        spec = SPECS[family].text[0]
        expected = text_encoder(padded, skip=spec.skip, final_norm=spec.final_norm).hidden[0]
        assert torch.equal(encoder(models[family]).encode("a fox").hidden, expected)


def features(*numbers):
    return timestep_embedding(torch.tensor(numbers), SIZE_WIDTH).flatten()


def test_vector_of_sdxl(models):
    sizes = Sizes((768, 512), (1024, 640), crop=(8, 16))
    condition = encoder(models["sdxl"], sizes=sizes).encode(LONG)
    first, _ = encoder(models["sdxl"]).chunker(LONG).chunks
    tokens = list(first.tokens)
    end = tokens.index(TOKENIZER.eos) + 1
    tokens[end:] = [0] * (77 - end)
    pooled = models["sdxl"].text_encoders[1](torch.tensor([tokens])).pooled[0]
    assert torch.equal(condition.vector, torch.cat([pooled, features(768, 512, 8, 16, 1024, 640)]))


def test_vector_of_the_refiner(models):
    prompts = encoder(models["refiner"], sizes=Sizes.plain(512, 768))
    positive, negative = prompts.encode("a"), prompts.encode("a", negative=True)
    assert torch.equal(positive.hidden, negative.hidden)
    assert torch.equal(positive.vector[:32], negative.vector[:32])
    assert torch.equal(positive.vector[32:], features(512, 768, 0, 0, 6.0))
    assert torch.equal(negative.vector[32:], features(512, 768, 0, 0, 2.5))
    assert prompts.encode("", negative=True).hidden.abs().max() > 0


def test_default_sizes_are_those_of_training(models):
    assert torch.equal(encoder(models["sdxl"]).encode("a").vector[32:], features(1024, 1024, 0, 0, 1024, 1024))


def test_an_empty_negative_prompt_is_zero_for_sdxl(models):
    prompts = encoder(models["sdxl"])
    zero = prompts.encode("", negative=True, chunks=2)
    assert zero.hidden.shape == (154, 64)
    assert torch.count_nonzero(zero.hidden) == 0
    assert torch.count_nonzero(zero.vector[:32]) == 0
    assert torch.equal(zero.vector[32:], prompts.encode("").vector[32:])
    assert torch.count_nonzero(prompts.encode("").hidden) > 0
    assert torch.count_nonzero(prompts.encode(" ", negative=True).hidden) > 0
    other = encoder(models["sd1"])
    assert other.encode("", negative=True) is other.encode("")


def test_another_size_does_not_run_the_text_encoders_again(models, monkeypatch):
    prompts = encoder(models["sdxl"])
    first = prompts.encode("a fox")
    monkeypatch.setattr(PromptEncoder, "_with_embeddings", None)
    for text_encoder in models["sdxl"].text_encoders:
        monkeypatch.setattr(type(text_encoder), "forward", None)
    second = prompts.resized(Sizes.plain(2048, 1024)).encode("a fox")
    assert torch.equal(first.hidden, second.hidden)
    assert torch.equal(second.vector, torch.cat([first.vector[:32], features(2048, 1024, 0, 0, 2048, 1024)]))
    assert prompts.encode("a fox") is first


def test_a_vector_condition_that_does_not_fit(models):
    model = small_model("sdxl")
    model.spec = replace(model.spec, unet=replace(model.spec.unet, adm_in_channels=81))
    with pytest.raises(Unsupported, match="belongs to another model"):
        encoder(model).encode("a")
    model.spec = replace(models["sdxl"].spec, text=tuple(replace(spec, pooled=False) for spec in model.spec.text))
    with pytest.raises(Unsupported, match="width None"):
        encoder(model).encode("a")


def embeddings(*widths):
    generator = torch.Generator().manual_seed(1)
    vectors = tuple(torch.randn(2, width, generator=generator) for width in widths)
    return EmbeddingTable([Embedding("qwx", tuple(TOKENIZER.encode("qwx")), vectors)])


@pytest.mark.parametrize(("family", "widths"), [("sd1", (24,)), ("sdxl", (24, 40))])
def test_embeddings_replace_token_vectors(models, family, widths):
    table = embeddings(*widths)
    got = PromptEncoder(models[family], TOKENIZER, embeddings=table).encode("a qwx fox").hidden
    found = table.find(TOKENIZER.encode("qwx"), 0)
    tokens = [TOKENIZER.bos, *TOKENIZER.encode("a"), 0, 0, *TOKENIZER.encode("fox"), TOKENIZER.eos]
    expected = []
    for text_encoder, spec, vectors in zip(models[family].text_encoders, SPECS[family].text, found.vectors, strict=True):
        padding = [TOKENIZER.eos if spec.config.eos_padding else 0] * (77 - len(tokens))
        ids = torch.tensor([tokens + padding])
        rows = text_encoder.token_embeddings(ids).clone()
        rows[0, 2:4] = vectors
        output = text_encoder(ids, skip=spec.skip, final_norm=spec.final_norm, embeddings=rows)
        expected.append(output.hidden[0])
    assert torch.equal(got, torch.cat(expected, dim=-1))


@pytest.mark.parametrize("widths", [(25,), (24, 40)])
def test_an_embedding_of_another_model(models, widths):
    prompts = PromptEncoder(models["sd1"], TOKENIZER, embeddings=embeddings(*widths))
    with pytest.raises(InvalidRequest, match=r"wide, those of this model 24\."):
        prompts.encode("a qwx fox")
    assert prompts.encode("a fox").hidden.shape == (77, 24)


def test_count(models):
    prompts = encoder(models["sd1"])
    assert prompts.count("a fox") == (2, 75)
    assert prompts.count("") == (0, 75)
    # The first chunk ends behind its last comma, but counts as full.
    assert prompts.count(LONG) == (75 + (20 * 7 - 1) - 70, 150)


def test_too_much_text(models, monkeypatch):
    monkeypatch.setattr(encode, "MAX_CHUNKS", 3)
    assert encoder(models["sd1"]).encode("a BREAK b BREAK c").hidden.shape[0] == 3 * 77
    with pytest.raises(InvalidRequest, match="more than 3 chunks"):
        encoder(models["sd1"]).encode("a BREAK b BREAK c BREAK d")
    with pytest.raises(InvalidRequest, match="more than 3 chunks"):
        encoder(models["sd1"]).encode_all(["a BREAK b", "c"])


def test_malformed_weights(models):
    with pytest.raises(InvalidRequest, match="not a number"):
        encoder(models["sd1"]).encode("(a:1.2.3)")
