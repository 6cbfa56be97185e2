"""From prompts to a guided estimate with a real network: parts, weights, editing and prompts of different length."""

import pytest
import torch
from tests.engine.prompt.models import small_model

from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.prompt.conditioning import plan_prompts
from sfumato.engine.prompt.encode import PromptEncoder
from sfumato.engine.prompt.timeline import Clock
from sfumato.engine.sampling.guidance import GuidanceOptions, guide
from sfumato.engine.sampling.prediction import Prediction

LONG = ", ".join(["a red fox in the snow"] * 20)
SCALE = 5.0


@pytest.mark.parametrize("family", ["sd1", "sdxl", "refiner"])
@torch.inference_mode()
def test_guided_by_prompts(family):
    model, prediction = small_model(family), Prediction.build()
    encoder = PromptEncoder(model, Tokenizer())

    def network(x, timesteps, conds):
        """Every row by itself, whatever the length of its condition."""
        rows = [
            model.unet(x[i : i + 1], timesteps[i : i + 1], c.hidden[None], None if c.vector is None else c.vector[None])
            for i, c in enumerate(conds)
        ]
        return torch.cat(rows)

    evaluate = prediction.denoiser(network)
    plan = plan_prompts(encoder, f"[a:b:2] :0.5 AND {LONG} :-0.2", "[rain|fog]", Clock(4))
    denoise = guide(evaluate, [plan.conditions()], GuidanceOptions(scale=SCALE), prediction, total_calls=4)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    results = []
    for calls, (first, negative) in enumerate([("a", "rain"), ("a", "rain"), ("a", "fog"), ("b", "rain")]):
        short = encoder.encode(first)
        assert plan.at(calls).positive[0][0].hidden.shape == (154, model.spec.unet.context_dim)
        assert torch.equal(plan.at(calls).positive[0][0].hidden[:77], short.hidden)
        conds = [plan.at(calls).positive[0][0], encoder.encode(f" {LONG}"), encoder.encode(negative, negative=True)]
        one, other, uncond = (evaluate(x, 3.0, [cond]) for cond in conds)
        expected = uncond + SCALE * (0.5 * (one - uncond) - 0.2 * (other - uncond))
        got = denoise(x, 3.0, calls).denoised
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        results.append(got)
    assert torch.equal(results[0], results[1])
    assert (results[1] - results[2]).abs().max() > 0.01
    assert (results[1] - results[3]).abs().max() > 0.01
