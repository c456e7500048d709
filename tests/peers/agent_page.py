"""The agent's page as its forms are posted, without a browser."""

from __future__ import annotations

import asyncio
import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request

from tests.peers.process import PeerFailed


class AgentPage:
    def __init__(self, portal: str) -> None:
        self.portal = portal
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        )

    async def _fetch(self, path: str, fields: dict[str, str] | None = None) -> tuple[int, str]:
        def fetch() -> tuple[int, str]:
            data = urllib.parse.urlencode(fields).encode() if fields is not None else None
            try:
                with self._opener.open(self.portal + path, data=data, timeout=10) as answer:
                    return answer.status, answer.read().decode(errors="replace")
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode(errors="replace")

        return await asyncio.to_thread(fetch)

    async def get(self, path: str) -> tuple[int, str]:
        return await self._fetch(path)

    async def download(self, path: str) -> bytes:
        """A file, as a player gets it."""

        def fetch() -> bytes:
            with self._opener.open(self.portal + path, timeout=10) as answer:
                return bytes(answer.read())

        return await asyncio.to_thread(fetch)

    async def post(self, path: str, fields: dict[str, str], *, form_on: str = "/agent") -> tuple[int, str]:
        """Post a form with the CSRF token that the page `form_on` carries."""
        _, page = await self._fetch(form_on)
        token = re.search(r'name="csrf"[^>]*?(?:value|content)="([^"]+)"', page)
        if token is None:
            raise PeerFailed(f"no CSRF token on {form_on}: {page[:400]}")
        return await self._fetch(path, {"csrf": token.group(1), **fields})

    async def log_in(self, login: str, password: str) -> None:
        status, page = await self.post(
            "/agent/login", {"login": login, "password": password}, form_on="/agent/login"
        )
        if status != 200 or 'name="password"' in page:
            raise PeerFailed(f"{login} cannot log in: {status} {page[:400]}")

    async def set_state(self, state: str) -> None:
        """`state` is "ready" or "not-ready"."""
        status, page = await self.post("/agent/state", {"state": state})
        if status != 200:
            raise PeerFailed(f"state {state}: {status} {page[:400]}")
