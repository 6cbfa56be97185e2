"""Tensors and images in, tensors and images out: no settings, threads, network or database."""
