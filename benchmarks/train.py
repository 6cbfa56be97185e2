"""Training speed of the UNet stage against a plain loop on diffusers and transformers: same shapes, batch and work.

Both sides encode the captions, noise given latents, predict, go back, clip, and update with AdamW; ours keeps averaged
weights besides. They take turns, so that what else the machine does falls on both.

    python benchmarks/train.py [--size 64] [--batch 32] [--rounds 7] [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from sfumato.train.average import Average
from sfumato.train.optim import groups_of, optimizers
from sfumato.train.recipe import recipe_from
from sfumato.train.target import Batch
from sfumato.train.targets.denoiser import Denoiser
from sfumato.train.tokens import padded

CAPTION = "a red circle left of a blue square on a white background"


def ours(size: int, latents: Tensor) -> Callable[[], float]:
    """One update of `train.loop` without its files."""
    tables = {"name": "bench", "target": "denoiser", "data": {"mix": "nano", "size": size, "pictograms": False}}
    recipe = recipe_from({**tables, "objective": {"offset_noise": 0.1, "min_snr": 5.0}, "optimizer": {"rate": 1e-4}})
    target = Denoiser(recipe, torch.device("cpu"))
    weights = list(target.weights.values())
    optimizer = optimizers["AdamW"](groups_of(target.weights, 0.01), recipe.optimizer)
    average = Average(target.weights, 0.999)
    batch = Batch(tuple(range(len(latents))), latents.new_empty(len(latents), 0), (CAPTION,) * len(latents), latents)

    def update() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = target.loss(batch, 0).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-4
        optimizer.step()
        average.update(target.weights)
        return float(loss.detach())

    return update


def plain(latents: Tensor) -> Callable[[], float]:
    """The loop that everybody writes."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=latents.shape[-1],
        layers_per_block=1,
        block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=160,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    config = CLIPTextConfig(
        hidden_size=160, intermediate_size=640, num_hidden_layers=6, num_attention_heads=5, bos_token_id=49406, eos_token_id=49407
    )
    text = CLIPTextModel(config).eval().requires_grad_(False)
    schedule = DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01)
    from sfumato.engine.models.tokenizer import Tokenizer

    tokenizer = Tokenizer()

    def update() -> float:
        optimizer.zero_grad()
        with torch.no_grad():
            context = text(padded(tokenizer, (CAPTION,) * len(latents))).last_hidden_state
        noise = torch.randn_like(latents) + 0.1 * torch.randn(len(latents), 4, 1, 1)
        times = torch.randint(0, 1000, (len(latents),))
        predicted = unet(schedule.add_noise(latents, noise, times), times, context).sample
        snr = schedule.alphas_cumprod[times] / (1 - schedule.alphas_cumprod[times])
        error = F.mse_loss(predicted, noise, reduction="none").mean((1, 2, 3))
        loss = (error * snr.clamp(max=5.0) / snr).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    found = parser.parse_args()
    torch.set_num_threads(found.threads)
    latents = torch.randn(found.batch, 4, found.size // 8, found.size // 8, generator=torch.Generator().manual_seed(0))
    sides = {"sfumato": ours(found.size, latents), "plain": plain(latents)}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for update in sides.values():
        update()
    for _ in range(found.rounds):
        for name, update in sides.items():
            began = time.perf_counter()
            update()
            spent[name].append(time.perf_counter() - began)
    rates = {name: found.batch / statistics.median(times) for name, times in spent.items()}
    ratio = statistics.median(b / a for a, b in zip(spent["sfumato"], spent["plain"], strict=True))
    facts = {"size": found.size, "batch": found.batch, "threads": found.threads, "ratio": round(ratio, 3)}
    facts |= {f"{name}_images_per_s": round(rate, 2) for name, rate in rates.items()}
    print(json.dumps(facts) if found.json else "\n".join(f"{name:<22} {value}" for name, value in facts.items()))


if __name__ == "__main__":
    main()
