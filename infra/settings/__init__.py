"""The settings: read from the environment, checked, and shown."""

from infra.settings.settings import Durability, Settings

__all__ = ["Durability", "Settings"]
