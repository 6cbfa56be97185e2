"""Enlarging: latents by interpolation, pictures by resampling; files with weights join in through the same registry."""
