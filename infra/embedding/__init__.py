"""The whole service in somebody else's process: what ``readapi.init_app`` and ``readapi.create_app`` find."""

from typing import Any

from falcon.asgi import App

from infra.access.open_guard import open_guard
from infra.composition import open_dead_letters, open_market_logs, open_recorder, open_stores
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
    stores = open_stores(settings)
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    return build_app(stores, guard, recorder, log_names(stores.redis), host=host, lifespan=StartedInTime)
