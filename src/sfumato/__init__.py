"""Sfumato: a complete Stable Diffusion system."""
