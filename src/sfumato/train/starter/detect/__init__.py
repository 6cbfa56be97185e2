"""Detectors without any network: what is in a picture of the starter world, for honest measurements."""
