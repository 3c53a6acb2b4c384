"""Users who change their lists, and check at every read that they see their last acknowledged change."""

import random
from threading import Event

import httpx

from tests.chaos.sent import Sent

PATH = "/api/users/watchlists"

REFUSED = (503, 504)
"""Statuses of a service that cannot answer now. A change may nevertheless have been made."""


class ListOwner:
    """A user with one watchlist, whose only symbol has the number of the change.

    A change without an answer may be made or not, so that several contents are possible until the next answer.

    Args:
        name: The id of the user.
        seed: The seed of all choices.
        client: The client. Its requests name the user.
        sent: Where the owner finds the losses of data, and notes faults.
    """

    def __init__(self, name: str, seed: int, client: httpx.Client, sent: Sent) -> None:
        self._chance = random.Random(f"{seed} {name}")
        self._client = client
        self._headers = {"X-User-ID": name}
        self._sent = sent
        self._number = 0
        self._id = ""
        self._etag = ""
        self._positions = ""
        self._possible: set[str] | None = set()
        """The possible symbols. Empty: there was no list yet. None: unknown, because Redis has lost data."""
        self._losses = 0

    def run(self, stop: Event) -> None:
        """Change the list until ``stop`` is set."""
        while not stop.is_set():
            self._change() if self._id else self._create()
            if self._chance.random() < 0.3:
                self.check()
            stop.wait(self._chance.uniform(0.05, 0.2))

    def check(self) -> bool:
        """Read the list, if there is one. Return whether the service has answered. Note a wrong content as a fault."""
        if not self._id:
            return True
        answer = self._request("GET", f"{PATH}/{self._id}", headers={"TickView-Min-Position": self._positions})
        if answer is None:
            return False
        if self._possible is None:
            return True
        symbols = answer.json()["watchlist"]["symbols"] if answer.status_code == 200 else [answer.text]
        if self._possible.isdisjoint(symbols):
            self._sent.faults.append(f"{self._headers} reads {symbols}, and not one of {self._possible}")
        return True

    def _create(self) -> None:
        answer = self._write("POST", PATH)
        if answer is None:
            return
        if answer.status_code == 201:
            self._id = answer.json()["watchlist"]["id"]
        elif answer.status_code == 409:  # an attempt without an answer has created the list
            lists = self._request("GET", PATH)
            if lists is not None and lists.json()["watchlists"]:
                [found] = lists.json()["watchlists"]
                self._id, self._etag = found["id"], f'"{found["version"]}"'
        else:
            self._sent.faults.append(f"the creation of a list is answered with {answer.status_code}: {answer.text}")

    def _change(self) -> None:
        answer = self._write("PUT", f"{PATH}/{self._id}", {"If-Match": self._etag})
        if answer is None or answer.status_code == 200:
            return
        if answer.status_code == 412:  # an attempt without an answer has changed the list
            self._etag = answer.headers["ETag"]
        elif answer.status_code == 404 and self._possible is None:
            self._id = ""
        else:
            self._sent.faults.append(f"the change of a list is answered with {answer.status_code}: {answer.text}")

    def _write(self, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response | None:
        """Write the next content. Return the answer, or None if it is unknown whether the service has written it."""
        self._number += 1
        symbol = f"N{self._number}"
        answer = self._request(method, path, headers=headers, json={"name": "Chaos", "symbols": [symbol]})
        if answer is None:
            if self._possible is not None:
                self._possible.add(symbol)
        elif answer.is_success:
            self._possible = {symbol}
            self._etag = answer.headers["ETag"]
            self._positions = answer.headers["TickView-Position"]
        return answer

    def _request(
        self, method: str, path: str, headers: dict[str, str] | None = None, **body: object
    ) -> httpx.Response | None:
        """Return the answer, or None if there is none, or if Redis has lost data meanwhile."""
        try:
            answer = self._client.request(method, path, headers={**self._headers, **(headers or {})}, **body)
        except httpx.TransportError:
            answer = None
        if self._sent.losing or len(self._sent.losses) > self._losses:
            self._losses = len(self._sent.losses)
            self._possible, self._positions = None, ""
            return None
        return None if answer is None or answer.status_code in REFUSED else answer
