"""Our text encoders against transformers' on the same random weights."""

from dataclasses import replace

import pytest
import torch
from tests.parity.oracle import adopt, assert_same, need_memory, noise, randomise
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sfumato.engine.models.clip import CLIPText
from sfumato.engine.models.config import TextConfig
from sfumato.engine.models.diffusion import build_text_encoder

BOS, EOS = 49406, 49407
TINY = TextConfig(width=32, layers=5, heads=4, mlp_width=80)
CONFIGS = {
    "clip": TINY,
    "clip with projection": replace(TINY, projection_dim=24),
    "open_clip": replace(TINY, layout="open_clip", activation="gelu", projection_dim=24, eos_padding=False),
}
FULL = {
    "clip-l": TextConfig(),
    "open_clip-h": TextConfig("open_clip", 49408, 1024, 24, 16, 4096, 77, "gelu", 1024, False),
    "open_clip-bigg": TextConfig("open_clip", 49408, 1280, 32, 20, 5120, 77, "gelu", 1280, False),
}


def pair(config: TextConfig, seed: int):
    shapes = CLIPTextConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=config.max_positions,
        hidden_act=config.activation,
        projection_dim=config.projection_dim or config.width,
    )
    theirs = (CLIPTextModelWithProjection if config.projection_dim else CLIPTextModel)(shapes)
    randomise(theirs, seed)
    with torch.device("meta"):
        ours = build_text_encoder(config)
    tensors = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in theirs.state_dict().items()}
    if "text_model.text_projection.weight" in tensors:
        tensors["text_projection.weight"] = tensors.pop("text_model.text_projection.weight")
    return adopt(ours, tensors if isinstance(ours, CLIPText) else open_clip_names(tensors)), theirs


def open_clip_names(tensors: dict) -> dict:
    """The same weights under OpenCLIP's names, with stacked projections."""
    result = {
        "positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        "text_projection": tensors["text_projection.weight"].T,
        "logit_scale": torch.tensor(4.6052),
    }
    renamed = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for name, tensor in tensors.items():
        if name.startswith("text_model.final_layer_norm."):
            result[name.replace("text_model.final_layer_norm", "ln_final")] = tensor
        if not name.startswith("text_model.encoder.layers."):
            continue
        number, part, kind = name.removeprefix("text_model.encoder.layers.").split(".", 1)[0], *name.rsplit(".", 1)
        part = part.removeprefix(f"text_model.encoder.layers.{number}.")
        block = f"transformer.resblocks.{number}"
        if part in renamed:
            result[f"{block}.{renamed[part]}.{kind}"] = tensor
        elif part == "self_attn.out_proj":
            result[f"{block}.attn.out_proj.{kind}"] = tensor
        elif part == "self_attn.q_proj":
            rows = [tensors[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            result[f"{block}.attn.in_proj_{kind}"] = torch.cat(rows)
    return result


def sequences(seed: int, padding: int) -> torch.Tensor:
    """Token sequences of different lengths, one of them full and one empty."""
    tokens = torch.full((4, 77), padding)
    generator = torch.Generator().manual_seed(seed)
    for row, length in enumerate((0, 3, 40, 75)):
        words = torch.randint(0, BOS, (length,), generator=generator)
        tokens[row, : length + 2] = torch.cat([torch.tensor([BOS]), words, torch.tensor([EOS])])
    return tokens


@pytest.mark.parametrize("skip", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", CONFIGS)
def test_hidden_states_of_every_clip_skip(layout, skip, seed):
    config = CONFIGS[layout]
    ours, theirs = pair(config, seed)
    tokens = sequences(seed, EOS if config.eos_padding else 0)
    want = theirs(tokens, output_hidden_states=True)
    plain = ours(tokens, skip=skip, final_norm=False)
    assert_same(plain.hidden, want.hidden_states[-skip])
    normed = ours(tokens, skip=skip)
    final = getattr(theirs, "text_model", theirs).final_layer_norm
    assert_same(normed.hidden, final(want.hidden_states[-skip]))
    if skip == 1:
        assert_same(normed.hidden, want.last_hidden_state)
    if config.projection_dim:
        # The pooled vector is that of the last layer, however many layers the hidden states skip.
        assert_same(plain.pooled, want.text_embeds)
        assert torch.equal(plain.pooled, normed.pooled)
    else:
        assert plain.pooled is None


def test_embeddings_take_the_place_of_tokens(seed):
    ours, theirs = pair(CONFIGS["clip"], seed)
    tokens = sequences(seed, EOS)
    rows = ours.token_embeddings(tokens)
    assert torch.equal(ours(tokens, embeddings=rows).hidden, ours(tokens).hidden)
    concept = noise(32, seed=seed + 1)
    rows = rows.clone()
    rows[1, 2] = concept
    theirs.get_input_embeddings().weight[1234] = concept
    tokens = tokens.clone()
    tokens[1, 2] = 1234
    assert_same(ours(sequences(seed, EOS), embeddings=rows).hidden, theirs(tokens).last_hidden_state)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "memory"), [("clip-l", 1.5), ("open_clip-h", 4.0), ("open_clip-bigg", 6.5)])
def test_real_widths(name, memory, seed):
    need_memory(memory)
    config = FULL[name]
    ours, theirs = pair(config, seed)
    tokens = sequences(seed, EOS if config.eos_padding else 0)
    want = theirs(tokens, output_hidden_states=True)
    got = ours(tokens, skip=2, final_norm=False)
    assert_same(got.hidden, want.hidden_states[-2])
    if config.projection_dim:
        assert_same(got.pooled, want.text_embeds)
