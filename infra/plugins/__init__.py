"""Plug-ins: packages that bring read models, events and channels. ``docs/plugins.md`` shows how to write one."""

from infra.plugins.configuration import configure

__all__ = ["configure"]
