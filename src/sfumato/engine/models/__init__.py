"""Definitions of the networks; attribute names are the checkpoint's keys."""
