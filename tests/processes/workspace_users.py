"""Users of the real API who manage watchlists and filter presets."""

from typing import Any

import httpx

WATCHLISTS = "/api/users/watchlists"
PRESETS = "/api/users/filter-presets"
UNKNOWN_ID = "0" * 32
"""An id that no list has."""


class User:
    """A user whose reads wait for the user's own writes."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self._client = client
        self._name = name
        self.position = "users=0"
        """The position of the last write."""

    def request(self, method: str, path: str, status: int, *, json: Any = None, **headers: str) -> httpx.Response:
        """Send a request and check the status of the response. Underscores in names of headers stand for hyphens."""
        extra_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        user_headers = {"X-User-ID": self._name}
        if method == "GET":
            user_headers["TickView-Min-Position"] = self.position
        response = self._client.request(method, path, json=json, headers={**user_headers, **extra_headers})
        assert response.status_code == status, response.text
        if method != "GET" and status < 300:
            self.position = response.headers["TickView-Position"]
        return response

    def create_watchlist(self, name: str, *symbols: str) -> str:
        """Create a watchlist and return its id."""
        created = self.request("POST", WATCHLISTS, 201, json={"name": name, "symbols": symbols})
        return str(created.json()["watchlist"]["id"])

    def create_preset(self, name: str, default: bool = False, **parameters: Any) -> str:
        """Create a filter preset and return its id."""
        content = {"name": name, "parameters": parameters, "default": default}
        return str(self.request("POST", PRESETS, 201, json=content).json()["preset"]["id"])

    def scan_symbols(self, query: str) -> list[str]:
        """Scan the patterns and return the symbols in the order of the result."""
        rows = self.request("GET", f"/api/patterns/scan?{query}", 200).json()["patterns"]
        return [row["symbol"] for row in rows]
