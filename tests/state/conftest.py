"""How much hypothesis tries here: no deadline, since a busy machine is no failure of the code."""

from hypothesis import settings

settings.register_profile("state", max_examples=50, deadline=None)
settings.load_profile("state")
