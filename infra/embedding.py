"""The whole service in somebody else's process: what ``readapi.init_app`` and ``readapi.create_app`` find."""

from typing import Any

from falcon.asgi import App

from infra.access.guarding import open_guard
from infra.composition import log_names, open_recorder, open_redis
from infra.serving import build_app
from infra.settings import Settings
from readapi.mounted import StartedInTime


def add_to(host: App[Any, Any] | None) -> App[Any, Any]:
    """As ``EmbeddedService``, with the settings from the environment.

    Raises StartupError where Redis cannot be used or a file of tokens or keys cannot be read, and pydantic's
    ValidationError for a setting that is wrong.
    """
    settings = Settings()
    guard = open_guard(settings)
    client = open_redis(settings)
    recorder = open_recorder(client, settings)
    return build_app(settings, guard, client, recorder, log_names(client), host=host, lifespan=StartedInTime)
