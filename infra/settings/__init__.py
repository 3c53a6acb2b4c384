"""The settings: environment variables and their validation."""

from infra.settings.settings import Durability, Settings

__all__ = ["Durability", "Settings"]
