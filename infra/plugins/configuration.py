"""The configuration of a process: its settings, and the plug-ins and channels that it knows before any other work."""

from typing import Any

from domain.wire import ChannelError, FurtherChannel, add_further_channel
from infra.plugins.loading import load_plugins
from infra.processes.errors import StartupError
from infra.settings import Settings


def configure(**changes: Any) -> Settings:
    """Read the settings, load the plug-ins and add further channels.

    Each process that uses events or read models begins with this function.

    A forked process has the plug-ins of its parent. Another call in the same process changes nothing.

    Args:
        changes: Settings that replace those of the environment.

    Raises:
        pydantic.ValidationError: A setting is invalid.
        StartupError: A plug-in cannot be loaded, or a part of it does not fit, or a channel carries another kind of
            messages.
    """
    settings = Settings(**changes)
    load_plugins(settings.plugins)
    for channel in settings.channels:
        try:
            add_further_channel(FurtherChannel.parse(channel))
        except ChannelError as error:
            raise StartupError(f"TICKVIEW_CHANNELS: {error}") from error
    return settings
