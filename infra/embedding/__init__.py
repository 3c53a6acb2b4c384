"""The whole service in somebody else's process: what ``readapi.init_app`` and ``readapi.create_app`` find."""

from typing import Any

from falcon.asgi import App

from infra.access.open_guard import open_guard
from infra.composition import open_recorder, open_redis
from infra.log.partitions import log_names
from infra.serving.app import build_app
from infra.settings import Settings
from readapi.http.mounting import StartedInTime


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
