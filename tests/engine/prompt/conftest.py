"""Property tests here try the same texts every time, however slow the machine is."""

from hypothesis import settings

settings.register_profile("prompt", deadline=None, derandomize=True)
settings.load_profile("prompt")
