"""Plans: what guides each call of the model."""

import pytest
import torch
from tests.engine.prompt.models import small_model

from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.prompt import conditioning
from sfumato.engine.prompt.conditioning import plan_prompts
from sfumato.engine.prompt.encode import PromptEncoder
from sfumato.engine.prompt.timeline import Clock
from sfumato.engine.sampling.guidance import active
from sfumato.errors import InvalidRequest

LONG = ", ".join(["a red fox in the snow"] * 20)


@pytest.fixture(scope="module")
def model():
    return small_model("sd1")


@pytest.fixture
def encoder(model):
    return PromptEncoder(model, Tokenizer())


def test_a_plain_prompt_is_the_same_object_at_every_call(encoder):
    plan = plan_prompts(encoder, "a fox", "rain", Clock(5))
    first = plan.at(0)
    assert first.positive == ((encoder.encode("a fox"), 1.0),)
    assert first.negative is encoder.encode("rain")
    assert first.equal_length
    assert all(plan.at(calls).positive[0][0] is first.positive[0][0] for calls in range(9))
    assert list(plan) == [encoder.encode("a fox"), encoder.encode("rain")]


def test_editing_on_either_side(encoder):
    plan = plan_prompts(encoder, "[a:b:3]", "[c|d]", Clock(4))
    positive = [plan.at(calls).positive[0][0] for calls in range(6)]
    assert positive == [encoder.encode(text) for text in "aaaaba"]
    assert [plan.at(calls).negative for calls in range(6)] == [encoder.encode(text) for text in "ccdcdc"]
    assert len(list(plan)) == 4


def test_parts_and_weights(encoder):
    plan = plan_prompts(encoder, "a :0.6 AND b AND [c:d:2] :-1", "a AND b", Clock(4))
    assert plan.at(0).positive == (
        (encoder.encode("a"), 0.6),
        (encoder.encode(" b"), 1.0),
        (encoder.encode(" c"), -1.0),
    )
    assert plan.at(3).positive[2][0] is encoder.encode(" d")
    assert plan.at(0).negative is encoder.encode("a AND b")


def test_second_pass(encoder):
    plan = plan_prompts(encoder, "[a:b:1.5]", "", Clock(10, 4))
    assert [plan.at(calls).positive[0][0] for calls in (0, 2, 3, 4)] == [encoder.encode(text) for text in "aabb"]


def test_parts_of_different_length_repeat_their_last_vector(encoder):
    plan = plan_prompts(encoder, f"a fox AND {LONG}", "", Clock(4))
    (short, _), (long, _) = plan.at(0).positive
    assert short.hidden.shape == long.hidden.shape == (154, 24)
    plain = encoder.encode("a fox").hidden
    assert torch.equal(short.hidden, torch.cat([plain, plain[-1:].expand(77, -1)]))
    assert plan.at(3).positive[0][0] is short


def test_texts_of_one_timeline_get_empty_chunks(encoder):
    plan = plan_prompts(encoder, f"[a fox:{LONG}:2]", "", Clock(4))
    short = plan.at(0).positive[0][0]
    assert torch.equal(short.hidden, torch.cat([encoder.encode("a fox").hidden, encoder.encode("").hidden]))
    assert not plan.at(0).equal_length


@pytest.mark.parametrize("padding", ["none", "empty", "last"])
@pytest.mark.parametrize("longer", ["prompt", "negative"])
def test_prompts_of_different_length(encoder, padding, longer):
    texts = (LONG, "rain") if longer == "prompt" else ("rain", LONG)
    active = plan_prompts(encoder, *texts, Clock(4), padding=padding).at(0)
    ((positive, _),) = active.positive
    plain, empty = encoder.encode("rain").hidden, encoder.encode("").hidden
    short = active.negative if longer == "prompt" else positive
    assert active.equal_length == (padding != "none")
    if padding == "empty":
        assert torch.equal(short.hidden, torch.cat([plain, empty]))
    elif padding == "none":
        assert torch.equal(short.hidden, plain)
    elif longer == "prompt":
        assert torch.equal(short.hidden, torch.cat([plain, plain[-1:].expand(77, -1)]))
    else:
        # The old way never touches the prompt: the negative one is cut.
        assert torch.equal(active.negative.hidden, encoder.encode(LONG).hidden[:77])
        assert torch.equal(positive.hidden, plain)


def test_padding_keeps_the_vector():
    encoder = PromptEncoder(small_model("sdxl"), Tokenizer())
    for padding in ("empty", "last"):
        active = plan_prompts(encoder, LONG, "rain", Clock(4), padding=padding).at(0)
        assert active.negative.hidden.shape == (154, 64)
        assert active.negative.vector is encoder.encode("rain", negative=True).vector
    zero = plan_prompts(encoder, "a", "", Clock(4)).at(0).negative
    assert torch.count_nonzero(zero.hidden) == 0


def test_too_many_parts(encoder, monkeypatch):
    monkeypatch.setattr(conditioning, "MAX_PARTS", 2)
    assert len(plan_prompts(encoder, "a AND b", "", Clock(4)).at(0).positive) == 2
    with pytest.raises(InvalidRequest, match="joins 3 parts with AND"):
        plan_prompts(encoder, "a AND b AND c", "", Clock(4))


def test_a_plan_does_not_depend_on_another(model, encoder):
    plan_prompts(encoder, LONG, LONG, Clock(9))
    among = plan_prompts(encoder, "a [fox|(bear:1.2)]", "", Clock(4))
    alone = plan_prompts(PromptEncoder(model, Tokenizer()), "a [fox|(bear:1.2)]", "", Clock(4))
    for calls in range(5):
        assert torch.equal(among.at(calls).positive[0][0].hidden, alone.at(calls).positive[0][0].hidden)
        assert torch.equal(among.at(calls).negative.hidden, alone.at(calls).negative.hidden)


def test_what_guidance_gets(encoder):
    plan = plan_prompts(encoder, f"[a:b:2] :0.5 AND {LONG}", "[c|d]", Clock(4))
    conditions = plan.conditions()
    assert [weight for weight, _ in conditions.parts] == [0.5, 1.0]
    for calls in range(7):
        at = plan.at(calls)
        assert [active(timeline, calls) for _, timeline in conditions.parts] == [condition for condition, _ in at.positive]
        assert active(conditions.uncond, calls) is at.negative
