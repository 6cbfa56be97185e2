"""What can be trained; importing this package registers all of it."""

from sfumato.train.targets import autoencoder as autoencoder
from sfumato.train.targets import contrastive as contrastive
from sfumato.train.targets import denoiser as denoiser
from sfumato.train.targets import lora as lora
