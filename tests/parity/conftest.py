"""What all comparisons with reference implementations share."""

import os

import pytest
import torch


@pytest.fixture
def seed() -> int:
    """Seed of all random weights and inputs; SFUMATO_PARITY_SEED names another one."""
    return int(os.environ.get("SFUMATO_PARITY_SEED", "0"))


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield
