"""What a network predicts and on which noise schedule: the way from its raw output to an estimate of the clean latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sfumato.engine.models.config import ModelSpec, PredictionKind
from sfumato.engine.sampling.levels import LOG_ALPHA, FlowLevels, NoiseLevels
from sfumato.errors import InvalidRequest

TERMINAL_ALPHA = 4.8973451890853435e-08
"""The last alphas_cumprod of a schedule with zero terminal SNR; not 0, so that sigma stays finite."""

C_contra = TypeVar("C_contra", contravariant=True)
C = TypeVar("C")


class Network(Protocol[C_contra]):
    """The raw denoising network under conditions whose type is the caller's affair."""

    def __call__(self, x: Tensor, timesteps: Tensor, conds: Sequence[C_contra]) -> Tensor:
        """The network's output [n, c, h, w] for scaled latents `x` [n, c, h, w], `timesteps` [n] and one condition per row."""
        ...


class Evaluate(Protocol[C_contra]):
    """A network as an estimator of clean latents."""

    def __call__(self, x: Tensor, sigma: float, conds: Sequence[C_contra]) -> Tensor:
        """The clean latents [n, c, h, w] for noisy `x` [n, c, h, w] at level `sigma`, one condition per row."""
        ...


class Scalings(NamedTuple):
    """denoised = c_skip * x + c_out * network(c_in * x), table 1 of Karras et al. 2022."""

    c_in: float
    c_skip: float
    c_out: float


def alphas_cumprod(linear_start: float, linear_end: float, timesteps: int) -> NDArray[np.float32]:
    """Signal power per timestep, float32 [timesteps], of the scaled-linear schedule of latent diffusion.

    Raises:
        InvalidRequest: fewer than two timesteps or betas outside 0 < start <= end < 1.
    """
    if timesteps < 2 or not 0 < linear_start <= linear_end < 1:
        raise InvalidRequest(
            f"A noise schedule from beta {linear_start:g} to {linear_end:g} over {timesteps} timesteps makes no sense.",
            advice="Betas lie between 0 and 1 and rise; Stable Diffusion uses 0.00085 to 0.012 over 1000.",
        )
    betas = np.linspace(math.sqrt(linear_start), math.sqrt(linear_end), timesteps, dtype=np.float64) ** 2
    return np.cumprod(1.0 - betas).astype(np.float32)


def zero_terminal_snr(alphas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rescale a schedule so that its last timestep is pure noise, algorithm 1 of Lin et al. 2023.

    In float32 throughout: the second-last value is a small difference, and models were trained with its rounding.
    """
    root = np.sqrt(alphas)
    first, last = root[0].copy(), root[-1].copy()
    root = (root - last) * (first / (first - last))
    result: NDArray[np.float32] = np.square(root)
    result[-1] = TERMINAL_ALPHA
    return result


@dataclass(frozen=True, eq=False)
class Prediction:
    """The kind of prediction and the noise levels of a model.

    Attributes:
        kind: "eps", "v" or "flow".
        levels: every level that the model was trained at.
    """

    kind: PredictionKind
    levels: NoiseLevels

    @classmethod
    def build(
        cls,
        kind: PredictionKind = "eps",
        *,
        linear_start: float = 0.00085,
        linear_end: float = 0.012,
        timesteps: int = 1000,
        terminal_zero: bool = False,
        downcast: bool = False,
        quantize: bool = False,
        shift: float = 1.0,
    ) -> Prediction:
        """The prediction of a model trained on the scaled-linear schedule, or of a flow model.

        Args:
            kind: what the network predicts.
            linear_start: first beta.
            linear_end: last beta.
            timesteps: how many.
            terminal_zero: rescale to zero terminal SNR.
            downcast: round alphas_cumprod to half precision first, as A1111 before 1.6 did with half-precision models.
            quantize: give the network whole timesteps only.
            shift: of a flow model's levels towards noise (Esser et al. 2024); 1 for none.

        Raises:
            InvalidRequest: a schedule that makes no sense.
        """
        if kind == "flow":
            even = np.arange(1, timesteps + 1, dtype=np.float64) / timesteps
            shifted = (shift * even / (1 + (shift - 1) * even)).astype(np.float32)
            return cls(kind, FlowLevels(shifted, timesteps=timesteps))
        alphas = alphas_cumprod(linear_start, linear_end, timesteps)
        if downcast:
            alphas = alphas.astype(np.float16).astype(np.float32)
        if terminal_zero:
            alphas = zero_terminal_snr(alphas)
        return cls(kind, NoiseLevels(np.sqrt((1 - alphas) / alphas), quantized=quantize))

    @classmethod
    def of(cls, spec: ModelSpec, *, downcast: bool = False, quantize: bool = False) -> Prediction:
        """The prediction of a checkpoint."""
        return cls.build(
            spec.prediction,
            linear_start=spec.linear_start,
            linear_end=spec.linear_end,
            timesteps=spec.timesteps,
            terminal_zero=spec.zero_terminal_snr,
            downcast=downcast,
            quantize=quantize,
        )

    @property
    def vp_levels(self) -> NoiseLevels:
        """The levels as DDIM, PLMS and UniPC read them between timesteps: linear in log alpha."""
        return NoiseLevels(self.levels.sigmas, axis=LOG_ALPHA)

    def scalings(self, sigma: float) -> Scalings:
        """The factors around the network at noise level `sigma`."""
        if self.kind == "flow":
            return Scalings(1.0, 1.0, -sigma)
        c_in = 1 / math.sqrt(sigma * sigma + 1)
        return Scalings(c_in, 1.0, -sigma) if self.kind == "eps" else Scalings(c_in, c_in * c_in, -sigma * c_in)

    def noised(self, latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """Latents [b, c, h, w] brought to level `sigma` with `noise` of unit variance."""
        return (latents * (1 - sigma) if self.kind == "flow" else latents) + noise * sigma

    def denoiser(self, network: Network[C], levels: NoiseLevels | None = None) -> Evaluate[C]:
        """Turn a raw network into an estimator of clean latents, in the dtype of the latents it is given.

        Args:
            network: see `Network`.
            levels: the mapping from sigma to timestep if not the model's own: the sampler's (see `Sampler.levels_of`).
        """
        timestep: Callable[[float], float] = (levels or self.levels).sigma_to_t

        def evaluate(x: Tensor, sigma: float, conds: Sequence[C]) -> Tensor:
            c_in, c_skip, c_out = self.scalings(sigma)
            raw = network(x * c_in, x.new_full([x.shape[0]], timestep(sigma)), conds)
            return x * c_skip + raw.to(x.dtype) * c_out

        return evaluate
