"""Noise, schedules, guidance and the solvers."""
