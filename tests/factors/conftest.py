"""How much hypothesis tries here: no deadline, since a busy machine is no failure of the code."""

from hypothesis import settings

settings.register_profile("factors", max_examples=100, deadline=None)
settings.load_profile("factors")
