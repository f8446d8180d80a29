"""Every test here may ask for a card."""

from tests.standin.fixtures import card, make_backend  # noqa: F401
