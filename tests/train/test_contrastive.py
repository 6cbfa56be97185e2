"""The text encoder's stage: gradients, hard negatives, twins in a batch, and what is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.engine.models.clip import CLIPText
from sfumato.engine.models.vision import CLIPVision
from sfumato.errors import InvalidRequest
from sfumato.train.recipe import Recipe, recipe_from
from sfumato.train.starter.architecture import architectures
from sfumato.train.starter.dice import Dice
from sfumato.train.starter.negatives import hard_negative
from sfumato.train.target import Batch
from sfumato.train.targets.contrastive import Contrastive

CPU = torch.device("cpu")


def recipe(size: int = 64) -> Recipe:
    data = {"mix": "nano", "size": size, "pictograms": False}
    return recipe_from({"name": "t", "target": "clip", "architecture": "nano", "data": data})


def batch(*captions: str) -> Batch:
    pixels = torch.rand(len(captions), 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(tuple(range(len(captions))), pixels, captions)


CAPTIONS = ("a red circle", "a blue square left of a green star", "", "two red circles")


def test_gradients_reach_every_weight() -> None:
    target = Contrastive(recipe(), CPU)
    target.loss(batch(*CAPTIONS), 0).total.backward()
    dead = [name for name, weight in target.weights.items() if weight.grad is None or not weight.grad.abs().sum() > 0]
    # A bias of keys moves all scores of a query alike, which softmax does not see: what remains is rounding or nothing.
    assert [name for name in dead if "k_proj.bias" not in name] == []


def test_empty_captions_and_twins_do_not_count_as_wrong() -> None:
    target = Contrastive(recipe(), CPU)
    alone = target.loss(batch(*CAPTIONS), 0).total
    more = batch(*CAPTIONS, "")
    assert (
        target.loss(Batch(more.indices, torch.cat([batch(*CAPTIONS).pixels, more.pixels[4:]]), more.captions), 0).total == alone
    )
    twins = target.loss(batch("a cat", "a cat"), 0)
    assert twins.total.item() == pytest.approx(0.0, abs=1e-6), "nothing wrong is left to choose"
    assert torch.isfinite(twins.total)


def test_learns_to_tell_a_handful_apart() -> None:
    target = Contrastive(recipe(), CPU)
    optimizer = torch.optim.AdamW(target.weights.values(), lr=3e-3)
    first = None
    for _ in range(15):
        loss = target.loss(batch(*CAPTIONS), 0)
        first = first or loss.total.item()
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.total.item() < 0.5 * first


def test_what_is_written(tmp_path: Path) -> None:
    target = Contrastive(recipe(), CPU)
    with torch.no_grad():
        target.clip.text_model.embeddings.token_embedding.weight[320] += 1.0
    target.save(tmp_path / "clip.safetensors")
    table = read_safetensors(tmp_path / "clip.safetensors")
    tensors = {name: table[name].read() for name in table}
    rows = tensors["text_model.embeddings.token_embedding.weight"].abs().sum(1)
    assert rows.nonzero().flatten().tolist() == [320], "words that were never seen say nothing"
    chosen = architectures["nano"]
    CLIPText(chosen.spec.text[0].config).load_state_dict({k: v for k, v in tensors.items() if k.startswith("text_model.")})
    CLIPVision(chosen.vision).load_state_dict({k: v for k, v in tensors.items() if k.startswith(("vision_model.", "visual_"))})
    figures = target.sheet().figures
    assert 0 <= figures["recall"] <= 1
    assert 0 <= figures["swap"] <= 1


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"data.size is 128") as caught:
        Contrastive(recipe(128), CPU)
    assert "64" in caught.value.advice


@pytest.mark.parametrize(
    ("caption", "possible"),
    [
        ("a red circle left of a blue square", {"a blue circle left of a red square", "a red circle right of a blue square"}),
        ("three hearts", {"two hearts", "four hearts"}),
        ("a cat above a dog", {"a cat below a dog"}),
        ("a cup on top of a box", {"a cup below a box"}),
    ],
)
def test_negatives_differ_in_one_thing(caption: str, possible: set[str]) -> None:
    made = {hard_negative(caption, Dice(seed)) for seed in range(60)}
    assert possible <= made
    assert None not in made
    assert caption not in made


def test_no_negative_where_nothing_can_be_changed() -> None:
    assert hard_negative("a cat", Dice(0)) is None
    assert hard_negative("", Dice(0)) is None
