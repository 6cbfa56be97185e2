"""Solvers against k-diffusion's sampling functions, over all their options, in double precision."""

import importlib.util
import itertools
import math
import sys
import types
from pathlib import Path

import pytest
import torch

from sfumato.engine.sampling.solvers import dpm, dpmpp, dpmpp_sde, euler, multistep
from sfumato.engine.sampling.step import Guided

SPEC = importlib.util.find_spec("k_diffusion")
if SPEC is None:
    pytest.skip("k-diffusion is not installed", allow_module_level=True)

LEVELS = {
    "two": torch.tensor([14.6, 0.7, 0.0], dtype=torch.float64),
    "karras": (torch.linspace(14.6 ** (1 / 7), 0.03 ** (1 / 7), 9, dtype=torch.float64) ** 7),
    "to zero": torch.cat([torch.logspace(1, -2, 9, dtype=torch.float64), torch.zeros(1)]),
}
SHAPE = (1, 4, 4, 4)


@pytest.fixture(scope="module")
def reference():
    """The module `k_diffusion.sampling` alone: the package itself wants libraries for training that nothing here needs."""
    folder = Path(SPEC.submodule_search_locations[0])
    with pytest.MonkeyPatch.context() as patch:
        package = types.ModuleType("k_diffusion")
        package.__path__ = [str(folder)]
        package.utils = types.ModuleType("k_diffusion.utils")
        package.utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
        unused = {"torchdiffeq": types.ModuleType("torchdiffeq"), "torchsde": types.ModuleType("torchsde")}
        unused["torchdiffeq"].odeint = None
        for name, module in {"k_diffusion": package, "k_diffusion.utils": package.utils, **unused}.items():
            patch.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location("k_diffusion.sampling", folder / "sampling.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "k_diffusion.sampling", module)
        spec.loader.exec_module(module)
        yield module


def normal(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Noise:
    """The same draws for both sides."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(7)

    def __call__(self, *_):
        return torch.randn(SHAPE, generator=self.generator, dtype=torch.float64)


def clean(x, sigma, seed):
    return (x * 0.49 + normal(seed) * sigma**2) / (0.49 + sigma**2)


def compare(theirs, ours, sigmas, seed, options, given=None, tolerance=1e-9):
    """`given` is what their function takes in place of the levels and the noise."""
    x = normal(seed + 1) * float(sigmas[0])

    def model(x, sigma, **_):
        return clean(x, sigma[:, None, None, None], seed)

    expected = theirs(model, x, **{"sigmas": sigmas, **options} if given is None else given, disable=True)
    noise = Noise()
    *_, last = ours(lambda x, s, call: Guided(clean(x, s, seed), x), x, sigmas, noise, **options)
    torch.testing.assert_close(last.x, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("levels", list(LEVELS))
@pytest.mark.parametrize(("eta", "s_noise"), list(itertools.product((0.0, 0.3, 1.0), (1.0, 0.9))))
@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("sample_euler_ancestral", euler.euler_ancestral),
        ("sample_dpm_2_ancestral", euler.dpm2_ancestral),
        ("sample_dpmpp_2s_ancestral", dpmpp.dpmpp_2s_ancestral),
        ("sample_dpmpp_sde", dpmpp_sde.dpmpp_sde),
        ("sample_dpmpp_2m_sde", dpmpp_sde.dpmpp_2m_sde),
        ("sample_dpmpp_3m_sde", dpmpp_sde.dpmpp_3m_sde),
    ],
)
def test_stochastic(reference, name, ours, eta, s_noise, levels, seed):
    sigmas, options = LEVELS[levels], {"eta": eta, "s_noise": s_noise}
    kinds = ({}, {"solver_type": "heun"}) if ours is dpmpp_sde.dpmpp_2m_sde else ({},)
    for kind in kinds:
        given = {"sigmas": sigmas, **options, **kind, "noise_sampler": Noise()}
        compare(getattr(reference, name), ours, sigmas, seed, {**options, **kind}, given)


@pytest.mark.parametrize("levels", list(LEVELS))
@pytest.mark.parametrize(
    ("name", "ours"), [("sample_euler", euler.euler), ("sample_heun", euler.heun), ("sample_dpm_2", euler.dpm2)]
)
def test_churn(reference, name, ours, levels, seed, monkeypatch):
    for churn, low, high, s_noise in itertools.product((0.0, 1.0, 40.0), (0.0, 0.3), (math.inf, 5.0), (1.0, 1.01)):
        noise = Noise()
        monkeypatch.setattr(torch, "randn_like", noise)
        options = {"s_churn": churn, "s_tmin": low, "s_tmax": high, "s_noise": s_noise}
        compare(getattr(reference, name), ours, LEVELS[levels], seed, options)


@pytest.mark.parametrize("levels", list(LEVELS))
@pytest.mark.parametrize(("name", "ours"), [("sample_dpmpp_2m", dpmpp.dpmpp_2m), ("sample_lms", multistep.lms)])
def test_multistep(reference, name, ours, levels, seed):
    compare(getattr(reference, name), ours, LEVELS[levels], seed, {})


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 11])
def test_dpm_fast(reference, n, eta, seed):
    sigmas, options = LEVELS["karras"], {"n": n, "eta": eta, "s_noise": 0.9}
    ends = {"sigma_min": float(sigmas[-1]), "sigma_max": float(sigmas[0])}
    # They have the times in single precision.
    given = {**ends, **options, "noise_sampler": Noise()}
    compare(reference.sample_dpm_fast, dpm.dpm_fast, sigmas, seed, options, given, tolerance=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_dpm_adaptive(reference, eta, seed):
    sigmas, options = LEVELS["karras"], {"eta": eta}
    given = {"sigma_min": float(sigmas[-1]), "sigma_max": float(sigmas[0]), **options, "noise_sampler": Noise()}
    compare(reference.sample_dpm_adaptive, dpm.dpm_adaptive, sigmas, seed, options, given, tolerance=1e-3)
