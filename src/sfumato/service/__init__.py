"""Turns requests into files: the model library, outputs, and `App`, the composition root."""
