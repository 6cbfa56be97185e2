"""Solvers: generators over a denoiser.

Every solver is called as `solver(denoise, x, sigmas, noise, **options)` and yields a `Step` after each step:

* `x` [b, c, h, w] is at level `sigmas[0]`, in the variance-exploding scale: clean + sigma * noise.
* `sigmas` is a float tensor on the CPU, descending; 0 may stand only at its end.
* `noise` gives all random numbers; solvers that are deterministic under their options do not ask it.

Solvers own no resources: a generator may be closed after any step. All arithmetic on latents is single products and sums
(no fused or accumulating kernels), each rounded on its own, so that a picture's numbers do not depend on where in a batch
it lies. A solver's coefficients are computed in double precision from the levels.
"""
