"""The denoising UNet of latent diffusion (Rombach et al. 2022): SD1, SD2, SDXL, refiner and everything of that shape.

Attribute names are the keys of single-file checkpoints below `model.diffusion_model.`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from sfumato.engine.models.attention import ContextKV, Seams, flash_attention
from sfumato.engine.models.blocks import Downsample, ResBlock, Upsample
from sfumato.engine.models.config import UNetConfig
from sfumato.engine.models.layers import Conv2d, GroupNorm, Linear, repeat_rows, timestep_embedding
from sfumato.engine.models.transformer import CrossAttention, SpatialTransformer

_NO_SEAMS = Seams()


class Stage(nn.ModuleList):
    """The modules of one numbered block of the UNet, in the order in which they are applied."""

    def forward(self, h: Tensor, emb: Tensor, context: ContextKV, seams: Seams, size: tuple[int, int] | None = None) -> Tensor:
        """Apply all modules to `h` [b, c, h, w]; `size` is what an upsampling module enlarges to."""
        for module in self:
            if isinstance(module, ResBlock):
                h = module(h, emb)
            elif isinstance(module, SpatialTransformer):
                h = module(h, context, seams)
            elif isinstance(module, Upsample):
                assert size is not None, "the last block of the decoder does not upsample"
                h = module(h, size)
            else:
                h = module(h)
        return h


class UNet(nn.Module):
    """Predicts noise (or velocity) from noisy latents.

    Args:
        config: the shapes.

    Attributes:
        config: as given.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        first = config.model_channels
        emb = first * 4
        self.time_embed = nn.Sequential(Linear(first, emb), nn.SiLU(), Linear(emb, emb))
        if config.adm_in_channels is not None:
            label = nn.Sequential(Linear(config.adm_in_channels, emb), nn.SiLU(), Linear(emb, emb))
            self.label_emb = nn.Sequential(label)
        self.input_blocks = nn.ModuleList(_encoder(config))
        widest = first * config.channel_mult[-1]
        self.middle_block = _middle(config, widest)
        self.output_blocks = nn.ModuleList(_decoder(config))
        self.out = nn.Sequential(
            GroupNorm(config.norm_num_groups, first, silu=True), nn.Identity(), Conv2d(first, config.out_channels)
        )
        self._number_attention()

    def _number_attention(self) -> None:
        """Tell every attention its path and its number among those of its kind."""
        counts = {"self": 0, "cross": 0}
        for name, module in self.named_modules():
            if isinstance(module, CrossAttention):
                module.site = replace(module.site, name=name, index=counts[module.site.kind])
                counts[module.site.kind] += 1

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights, in which the network computes."""
        return self.time_embed[0].weight.dtype  # type: ignore[return-value]

    def cross_attentions(self) -> Iterator[CrossAttention]:
        """Every attention to the text, by `AttentionSite.index`."""
        for module in self.modules():
            if isinstance(module, CrossAttention) and module.site.kind == "cross":
                yield module

    def project_context(self, context: Tensor, seams: Seams | None = None) -> ContextKV:
        """Keys and values of every cross-attention for text features [b, m, context_dim].

        They do not depend on the picture or the timestep: compute them once per job and pass them to `forward`. A
        `seams.transform` acts here, so it must be the one of the job.
        """
        context = context.to(self.dtype)
        used = seams or _NO_SEAMS
        return ContextKV(tuple(module.keys_values(context, used) for module in self.cross_attentions()))

    def embed(self, timesteps: Tensor, y: Tensor | None) -> Tensor:
        """The activated embedding [b, 4 * model_channels] of timesteps [b] and vector condition [b, adm]."""
        emb: Tensor = self.time_embed(timestep_embedding(timesteps, self.config.model_channels).to(self.dtype))
        if self.config.adm_in_channels is not None:
            if y is None:
                raise ValueError(f"this UNet needs a vector condition y of width {self.config.adm_in_channels}")
            emb = emb + self.label_emb(y.to(emb.dtype))
        return nn.functional.silu(emb)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | ContextKV,
        y: Tensor | None = None,
        *,
        seams: Seams | None = None,
    ) -> Tensor:
        """One prediction.

        Args:
            x: latents, with the variant's extra channels behind them, [b, in_channels, h, w]; any size, odd ones too.
            timesteps: [b], 0..999, whole or not.
            context: text features [b, m, context_dim], or their `project_context`.
            y: vector condition [b, adm_in_channels]; needed where the config has one.
            seams: what acts on the pass from outside.

        Returns:
            [b, out_channels, h, w] in the network's number format.

        Raises:
            ValueError: `x` has the wrong number of channels, or `y` is missing.
        """
        if x.shape[1] != self.config.in_channels:
            raise ValueError(f"this UNet takes {self.config.in_channels} channels, not {x.shape[1]}")
        used = seams or _NO_SEAMS
        kv = context if isinstance(context, ContextKV) else self.project_context(context, used)
        emb = self.embed(timesteps, y)
        h = x.to(dtype=self.dtype, memory_format=torch.channels_last)
        if used.attention is flash_attention and kv.batch == x.shape[0] and _alike(h) and _alike(emb):
            # Conditional and unconditional rows are the same until the text is looked at; until then one is computed.
            h, emb = h[:1], emb[:1]
        skips = []
        for number, stage in enumerate(self.input_blocks):
            h = stage(h, emb, kv, used)
            if (extra := used.residuals.inputs.get(number)) is not None:
                h = h + extra
            skips.append(h)
        if len(self.middle_block):
            h = self.middle_block(h, emb, kv, used)
        if used.residuals.middle is not None:
            h = h + used.residuals.middle
        for stage in self.output_blocks:
            skip = repeat_rows(skips.pop(), h.shape[0])
            if (extra := used.residuals.skip(len(skips))) is not None:
                skip = skip + extra
            size = tuple(skips[-1].shape[-2:]) if skips else None
            h = stage(torch.cat([h, skip], dim=1), emb, kv, used, size)
        result: Tensor = self.out(h)
        return result


def _alike(x: Tensor) -> bool:
    """Whether all rows of the batch are the same; not asked on devices where the answer would have to be waited for."""
    return x.device.type == "cpu" and x.shape[0] > 1 and all(torch.equal(x[0], row) for row in x[1:])


def _check(config: UNetConfig) -> None:
    """Refuse a config whose lists do not fit together."""
    encoder, decoder = sum(config.num_res_blocks), sum(n + 1 for n in config.num_res_blocks)
    if len(config.num_res_blocks) != len(config.channel_mult):
        raise ValueError("num_res_blocks and channel_mult must have one entry per level")
    if len(config.transformer_depth) != encoder or len(config.transformer_depth_output) != decoder:
        raise ValueError(f"transformer_depth needs {encoder} entries and transformer_depth_output {decoder}")
    if (config.num_heads is None) == (config.head_dim is None):
        raise ValueError("exactly one of num_heads and head_dim must be given")


def _transformer(config: UNetConfig, channels: int, depth: int) -> SpatialTransformer:
    heads = config.num_heads or channels // (config.head_dim or channels)
    return SpatialTransformer(
        channels,
        config.context_dim,
        heads,
        depth,
        linear=config.use_linear_projection,
        groups=config.norm_num_groups,
    )


def _residual(config: UNetConfig, channels: int, out_channels: int) -> ResBlock:
    return ResBlock(channels, out_channels, config.model_channels * 4, config.norm_num_groups)


def _encoder(config: UNetConfig) -> Iterator[Stage]:
    channels = config.model_channels
    depths = iter(config.transformer_depth)
    yield Stage([Conv2d(config.in_channels, channels)])
    for level, (mult, blocks) in enumerate(zip(config.channel_mult, config.num_res_blocks, strict=True)):
        out = config.model_channels * mult
        for _ in range(blocks):
            modules: list[nn.Module] = [_residual(config, channels, out)]
            if depth := next(depths):
                modules.append(_transformer(config, out, depth))
            yield Stage(modules)
            channels = out
        if level < len(config.channel_mult) - 1:
            yield Stage([Downsample(channels)])


def _middle(config: UNetConfig, channels: int) -> Stage:
    depth = config.transformer_depth_middle
    if depth < 0:
        return Stage([])
    modules: list[nn.Module] = [_residual(config, channels, channels)]
    if depth:
        modules += [_transformer(config, channels, depth), _residual(config, channels, channels)]
    return Stage(modules)


def _skip_channels(config: UNetConfig) -> list[int]:
    """Channels that each input block leaves for the decoder."""
    channels = [config.model_channels]
    for level, (mult, blocks) in enumerate(zip(config.channel_mult, config.num_res_blocks, strict=True)):
        down = level < len(config.channel_mult) - 1
        channels += [config.model_channels * mult] * (blocks + down)
    return channels


def _decoder(config: UNetConfig) -> Iterator[Stage]:
    skips = _skip_channels(config)
    channels = skips[-1]
    depths = iter(config.transformer_depth_output)
    for level in reversed(range(len(config.channel_mult))):
        out = config.model_channels * config.channel_mult[level]
        for block in range(config.num_res_blocks[level] + 1):
            modules: list[nn.Module] = [_residual(config, channels + skips.pop(), out)]
            if depth := next(depths):
                modules.append(_transformer(config, out, depth))
            if level and block == config.num_res_blocks[level]:
                modules.append(Upsample(out))
            yield Stage(modules)
            channels = out
