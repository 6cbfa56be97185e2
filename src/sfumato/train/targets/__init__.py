"""What can be trained; importing this package registers all of it."""

from sfumato.train.targets import autoencoder as autoencoder
