"""A customer whose page is played without a browser, for chats: its requests as the page's script makes them."""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import re
import secrets
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from tests.peers.process import PeerFailed


class CustomerPage:
    """A sample customer, e.g. CustomerPage(server.portal); log in first."""

    def __init__(self, portal: str) -> None:
        self.portal = portal
        self.contact = ""
        self._csrf = ""
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        )

    async def _fetch(
        self, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        def fetch() -> tuple[int, str]:
            request = urllib.request.Request(self.portal + path, data, headers or {})
            try:
                with self._opener.open(request, timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode(errors="replace")

        return await asyncio.to_thread(fetch)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        status, answer = await self._fetch(
            path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "X-CSRF-Token": self._csrf},
        )
        if status not in (200, 201):
            raise PeerFailed(f"{path}: {status} {answer[:400]}")
        found: dict[str, Any] = json.loads(answer)
        return found

    async def log_in(self, person: str = "maria") -> None:
        fields = {"email": f"{person}@example.org", "password": f"{person}-demo"}
        _, page = await self._fetch("/login")
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page)
        data = urllib.parse.urlencode({**dict(hidden), **fields}).encode()
        status, page = await self._fetch("/login", data)
        token = re.search(r'<meta name="?csrf"? content="([^"]+)"', page)
        if status != 200 or token is None:
            raise PeerFailed(f"{person} cannot log in: {status} {page[:400]}")
        self._csrf = token[1]

    async def ask_for_chat(self, product: str, article: str, text: str | None = None) -> str:
        """The id of the new contact."""
        return await self.ask_for("chat", product, article, text)

    async def ask_for(self, channel: str, product: str, article: str, text: str | None = None) -> str:
        """The id of the new contact; that of a call has to be called, or asked to be called back."""
        body = {"channel": channel, "product": product, "article": article, "visit": None, "text": text}
        self.contact = str((await self._post("/api/contacts", body))["id"])
        return self.contact

    async def ask_to_be_called_back(self, way: str) -> None:
        await self._post(f"/api/contacts/{self.contact}/call-back", {"way": way})

    async def position(self) -> int | None:
        """In the queue; None when they are not waiting there."""
        _, answer = await self._fetch(f"/api/contacts/{self.contact}")
        found: int | None = json.loads(answer)["position"]
        return found

    async def say(self, text: str, key: str | None = None) -> None:
        """`key`: the same line said again, not having heard that it was taken, has the same."""
        await self._post(
            f"/api/contacts/{self.contact}/messages", {"key": key or secrets.token_hex(8), "text": text}
        )

    async def end(self) -> None:
        await self._post(f"/api/contacts/{self.contact}/end", {})

    async def lines(self) -> list[tuple[str, str]]:
        """(who, text) of each line so far."""
        _, answer = await self._fetch(f"/api/contacts/{self.contact}")
        return [(line["from"], line["text"]) for line in json.loads(answer)["messages"]]
