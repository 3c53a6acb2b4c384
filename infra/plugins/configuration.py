"""The configuration of a process: its settings, and the plug-ins that it loads before any other work."""

from typing import Any

from infra.plugins.loading import load_plugins
from infra.settings import Settings


def configure(**changes: Any) -> Settings:
    """Read the settings and load the plug-ins. Each process that uses events or read models begins with this function.

    A forked process has the plug-ins of its parent. Another call in the same process changes nothing.

    Args:
        changes: Settings that replace those of the environment.

    Raises:
        pydantic.ValidationError: A setting is invalid.
        StartupError: A plug-in cannot be loaded, or a part of it does not fit.
    """
    settings = Settings(**changes)
    load_plugins(settings.plugins)
    return settings
