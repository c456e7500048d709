"""The customer's pages: every route of the portal, from login to the article, as one Klein application."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, cast

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from config.bridge import as_deferred
from config.errors import TheirError, WarmlineError
from config.login import Login, Logins
from kb_portal.article import Article
from kb_portal.customer import Customer
from kb_portal.forms import FormToken, came_from, field, header, local_path, number, plain_text
from kb_portal.html import Html, security_headers
from kb_portal.product import OwnedProduct
from kb_portal.search import ArticleIndex, marked
from kb_portal.store import PortalStore
from kb_portal.tracking import OpenView, Tracker

log = Logger()

P = ParamSpec("P")

_LARGEST_FORM = 64 * 1024
_LONGEST_QUERY = 200
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_ID = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class Reader:
    """The customer whose request this is, and what they own, which every page of theirs offers help with."""

    login: Login
    customer: Customer
    owned: tuple[OwnedProduct, ...]


Page = Callable[Concatenate["Portal", Request, Reader, P], Awaitable[str | bytes]]
PublicPage = Callable[Concatenate["Portal", Request, Reader | None, P], Awaitable[str | bytes]]
Route = Callable[Concatenate["Portal", Request, P], Deferred[bytes]]


def for_customers(page: Page[P]) -> Route[P]:
    """A page only a customer may see: others are shown the way to the login, and back."""

    @functools.wraps(page)
    def route(portal: Portal, request: Request, *args: P.args, **kwargs: P.kwargs) -> Deferred[bytes]:
        async def only_with_reader(request: Request, reader: Reader | None) -> str | bytes:
            if reader is None:
                return portal.to_login(request)
            return await page(portal, request, reader, *args, **kwargs)

        return as_deferred(portal.answer(request, only_with_reader))

    return cast("Route[P]", route)


def for_all(page: PublicPage[P]) -> Route[P]:
    @functools.wraps(page)
    def route(portal: Portal, request: Request, *args: P.args, **kwargs: P.kwargs) -> Deferred[bytes]:
        return as_deferred(
            portal.answer(request, lambda request, reader: page(portal, request, reader, *args, **kwargs))
        )

    return cast("Route[P]", route)


class Portal:
    """The knowledge base as a web site.

    `ca_pem` is the house's own certificate authority for phones to fetch, None where certificates are bought.
    `secure_url` is where the portal answers by https, told to those whose browser gives no camera over http.
    """

    app = Klein()

    def __init__(
        self,
        store: PortalStore,
        logins: Logins,
        tracker: Tracker,
        *,
        ca_pem: bytes | None = None,
        secure_url: str = "",
    ) -> None:
        self._store = store
        self._logins = logins
        self._tracker = tracker
        self._ca_pem = ca_pem
        self._html = Html(secure_url=secure_url, with_ca=ca_pem is not None)
        self._index = ArticleIndex(())
        self._indexed: tuple[int, float] | None = None

    def resource(self) -> Resource:
        """The portal at every path, for a Site. Other parts take a path of their own by `putChild` on it."""
        return _Root(self.app.resource())

    # Reading.

    @app.route("/", methods=["GET"])
    @for_customers
    async def home(self, request: Request, reader: Reader) -> str:
        articles = await self._store.articles(reader.customer.id)
        return self._render(
            request,
            "home.html",
            reader,
            mine=_unique(reader.owned),
            articles=_spread(articles, reader.owned, 6),
        )

    @app.route("/products/<slug>", methods=["GET"])
    @for_customers
    async def product(self, request: Request, reader: Reader, slug: str) -> str:
        mine = [one for one in reader.owned if one.product.slug == slug]
        if not mine:
            raise TheirError("We could not find this product among yours.", 404)
        product = mine[0].product
        articles = await self._store.articles(reader.customer.id, product_id=product.id)
        numbers = await self._store.numbers_for(reader.customer.id, product.id)
        view = await self._opened(request, reader, product=product)
        return self._render(
            request, "product.html", reader, mine=mine, articles=articles, numbers=numbers, view=view
        )

    @app.route("/articles/<slug>", methods=["GET"])
    @for_customers
    async def article(self, request: Request, reader: Reader, slug: str) -> str:
        article = await self._store.article(reader.customer.id, slug) if _SLUG.fullmatch(slug) else None
        if article is None:
            raise TheirError("We could not find this article.", 404)
        owned = reader.owned
        about = next((o for o in owned if o.product.id == article.product_id), None)
        provider = await self._store.provider(article.provider_id)
        # An article about everything a provider sells is read, and help asked for, about the customer's own product.
        helped = about or next((o for o in owned if o.product.provider_id == article.provider_id), None)
        everything = await self._store.articles(
            reader.customer.id, product_id=article.product_id or (helped.product.id if helped else None)
        )
        view = await self._opened(request, reader, article=article)
        return self._render(
            request,
            "article.html",
            reader,
            article=article,
            about=about,
            provider=provider,
            helped=helped,
            related=_related(article, everything),
            view=view,
        )

    @app.route("/search", methods=["GET"])
    @for_customers
    async def search(self, request: Request, reader: Reader) -> str:
        query = plain_text(field(request, "q", _LONGEST_QUERY))
        owned = reader.owned
        names = {o.product.id: o.product.name for o in owned}
        articles: Iterable[Article] = ()
        if query:
            index = await self._fresh_index()
            hits = index.find(
                query, providers={o.product.provider_id for o in owned}, owned={o.product.id for o in owned}
            )
            articles = [hit.article for hit in hits]
            if _counts(request):
                await self._tracker.searched(reader.customer.id, query, len(hits))
        else:
            articles = await self._store.articles(reader.customer.id)
        results = [
            (article, marked(article.title, query), marked(article.summary, query)) for article in articles
        ]
        return self._render(request, "search.html", reader, query=query, results=results, names=names)

    @app.route("/track", methods=["POST"])
    def track(self, request: Request) -> Deferred[bytes]:
        # The most frequent of all requests: it asks for the login alone, not for the customer and what they own.
        return as_deferred(self.answer(request, self._beat, with_reader=False))

    async def _beat(self, request: Request, reader: Reader | None) -> bytes:
        login = await self._logins.who(request, "customer")
        if login is None:
            raise TheirError("You are not logged in.", 403)
        self._check_csrf(request, login)
        view_id = field(request, "view", 64)
        if not _ID.fullmatch(view_id):
            raise TheirError("This page view is not known.")
        await self._tracker.beat(login.subject, view_id, number(request, "seconds"))
        request.setResponseCode(204)
        return b""

    # The customer's own account.

    @app.route("/account", methods=["GET"])
    @for_customers
    async def account(self, request: Request, reader: Reader) -> str:
        return self._render(request, "account.html", reader)

    @app.route("/login", methods=["GET"])
    @for_all
    async def login_page(self, request: Request, reader: Reader | None) -> str | bytes:
        target = local_path(field(request, "next", 300))
        if reader is not None:
            return _redirect(request, target)
        return self._login_form(request, target)

    @app.route("/login", methods=["POST"])
    @for_all
    async def login(self, request: Request, reader: Reader | None) -> str | bytes:
        target = local_path(field(request, "next", 300))
        email, password = plain_text(field(request, "email", 254)), field(request, "password", 1024)
        if not FormToken.matches(request):
            return self._login_form(
                request, target, email, "This page had been open for too long. Please try once more.", 403
            )
        if not email or not password:
            return self._login_form(
                request, target, email, "Please fill in both your e-mail address and your password.", 400
            )
        known = await self._store.customer_for_login(email)
        try:
            right = await self._logins.check_password(
                known[1] if known else None,
                password,
                name=email,
                address=request.getClientAddress().host,
            )
        except TheirError as refusal:
            return self._login_form(request, target, email, refusal.reason, refusal.status)
        if known is None or not right:
            return self._login_form(
                request, target, email, "That e-mail address and password do not belong together.", 403
            )
        await self._logins.start("customer", known[0].id, request)
        return _redirect(request, target)

    @app.route("/logout", methods=["POST"])
    @for_customers
    async def logout(self, request: Request, reader: Reader) -> bytes:
        self._check_csrf(request, reader.login)
        await self._logins.end(request, "customer")
        return _redirect(request, "/login")

    # For everyone.

    @app.route("/trust", methods=["GET"])
    @for_all
    async def trust(self, request: Request, reader: Reader | None) -> str:
        return self._render(request, "trust.html", reader)

    @app.route("/ca.pem", methods=["GET"])
    @for_all
    async def ca(self, request: Request, reader: Reader | None) -> bytes:
        if self._ca_pem is None:
            raise TheirError("This server's certificate is one your phone knows already.", 404)
        request.setHeader("content-type", "application/x-x509-ca-cert")
        request.setHeader("content-disposition", 'attachment; filename="warmline-ca.pem"')
        return self._ca_pem

    @app.route("/static/<path:path>", methods=["GET"])
    def static(self, request: Request, path: str) -> bytes | Deferred[bytes]:
        return self._html.static(request, path) or self._nothing_there(request)

    @app.route("/favicon.ico", methods=["GET"])
    def favicon(self, request: Request) -> bytes | Deferred[bytes]:
        return self._html.static(request, "favicon.svg") or self._nothing_there(request)

    @app.handle_errors(HTTPException)  # type: ignore[arg-type]
    def no_such_route(self, request: Request, failure: Failure) -> Deferred[bytes]:
        """Paths and methods the portal does not have."""
        error = cast(HTTPException, failure.value)
        if error.code in (301, 307, 308):
            return as_deferred(self.answer(request, _gone_to(error.get_response().headers["location"])))
        return self._nothing_there(request, error.code if error.code == 405 else 404)

    # How every answer is made.

    async def answer(
        self,
        request: Request,
        page: Callable[[Request, Reader | None], Awaitable[str | bytes]],
        *,
        with_reader: bool = True,
    ) -> bytes:
        """Run a page; whatever goes wrong in it becomes a page too, which says no more than it should."""
        security_headers(request)
        reader: Reader | None = None
        try:
            _check_size(request)
            if with_reader:
                reader = await self._reader(request)
            body = await page(request, reader)
        except asyncio.CancelledError:
            raise
        except WarmlineError as error:
            if error.status >= 500:
                log.failure("{uri} failed", uri=request.path)
            body = self._error(request, reader, error.status, error.reason)
        except Exception:
            log.failure("{uri} failed", uri=request.path)
            body = self._error(request, reader, 500, "Something broke on our side. It has been written down.")
        return body.encode() if isinstance(body, str) else body

    def to_login(self, request: Request) -> bytes:
        target = request.uri.decode("ascii", "replace") if request.method in (b"GET", b"HEAD") else "/"
        return _redirect(request, self._html.login_url(local_path(target)))

    async def _reader(self, request: Request) -> Reader | None:
        login = await self._logins.who(request, "customer")
        if login is None:
            return None
        customer = await self._store.customer(login.subject)
        return Reader(login, customer, await self._store.owned(customer.id)) if customer is not None else None

    async def _opened(self, request: Request, reader: Reader, **what: Any) -> OpenView | None:
        """Track the view, unless nobody looks: a HEAD, or a browser that fetches ahead."""
        if not _counts(request):
            return None
        path, search = came_from(request)
        return await self._tracker.open_view(reader.customer.id, referrer=path, search=search, **what)

    async def _fresh_index(self) -> ArticleIndex:
        stamp = await self._store.articles_stamp()
        if stamp != self._indexed:
            self._index = ArticleIndex(await self._store.all_articles())
            self._indexed = stamp
        return self._index

    def _check_csrf(self, request: Request, login: Login) -> None:
        if not self._logins.csrf_ok(login, request):
            raise TheirError(
                "This form came from a page that is no longer yours. Please go back and retry.", 403
            )

    def _login_form(
        self, request: Request, target: str, email: str = "", complaint: str = "", status: int = 200
    ) -> str:
        request.setResponseCode(status)
        return self._render(
            request,
            "login.html",
            None,
            target=target,
            email=email,
            complaint=complaint,
            form_token=FormToken.given(request),
        )

    def _error(self, request: Request, reader: Reader | None, status: int, reason: str) -> str:
        request.setResponseCode(status)
        return self._render(request, "error.html", reader, status=status, reason=reason)

    def _nothing_there(self, request: Request, status: int = 404) -> Deferred[bytes]:
        async def page(request: Request, reader: Reader | None) -> str:
            raise TheirError("There is no page at this address.", status)

        return as_deferred(self.answer(request, page))

    def _render(self, request: Request, template: str, reader: Reader | None, **facts: Any) -> str:
        return self._html.render(
            request,
            template,
            customer=reader.customer if reader else None,
            owned=reader.owned if reader else (),
            csrf=reader.login.csrf if reader else "",
            **facts,
        )


class _Root(Resource):
    """Children first, by putChild; every other path goes whole to the portal's own routes."""

    def __init__(self, pages: KleinResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pages = pages

    def getChild(self, path: bytes, request: Request) -> IResource:
        if request.prepath and request.postpath is not None:
            whole = [request.prepath.pop(), *request.postpath]
            # Klein answers bytes that are no UTF-8 in its own bare words; as other characters they find no page.
            request.postpath = [part.decode("utf-8", "replace").encode() for part in whole]
        return cast(IResource, self._pages)


def _redirect(request: Request, path: str) -> bytes:
    if header(request, "hx-request"):
        # A script that fetched a page would follow a redirect unseen; htmx is told to move the whole window.
        request.setHeader("hx-redirect", path)
        return b""
    request.setResponseCode(303)
    request.setHeader("location", path)
    return b""


def _gone_to(path: str) -> Callable[[Request, Reader | None], Awaitable[bytes]]:
    async def page(request: Request, reader: Reader | None) -> bytes:
        return _redirect(request, local_path(path))

    return page


def _check_size(request: Request) -> None:
    if request.content is not None:
        size = request.content.seek(0, 2)
        request.content.seek(0)
        if size > _LARGEST_FORM:
            raise TheirError("That is more than this page can take.", 413)


def _counts(request: Request) -> bool:
    ahead = header(request, "sec-purpose") or header(request, "purpose")
    return request.method == b"GET" and "prefetch" not in ahead


def _unique(owned: Iterable[OwnedProduct]) -> list[tuple[OwnedProduct, int]]:
    """Each product once, with how many of it there are."""
    counted: dict[str, tuple[OwnedProduct, int]] = {}
    for one in owned:
        first, count = counted.get(one.product.id, (one, 0))
        counted[one.product.id] = first, count + 1
    return list(counted.values())


def _spread(articles: Iterable[Article], owned: Iterable[OwnedProduct], limit: int) -> list[Article]:
    """A few articles with every product among them: the first of each, then the second of each."""
    piles: dict[str, list[Article]] = {one.product.id: [] for one in owned}
    for article in articles:
        if article.product_id in piles:
            piles[article.product_id].append(article)
    longest = max((len(pile) for pile in piles.values()), default=0)
    return [pile[i] for i in range(longest) for pile in piles.values() if i < len(pile)][:limit]


def _related(article: Article, others: Iterable[Article]) -> list[Article]:
    """Articles to read next: those that share most of what this one is about."""
    about = set(article.tags) | set(article.skills)
    rest = [other for other in others if other.id != article.id]
    rest.sort(key=lambda other: -len(about & (set(other.tags) | set(other.skills))))
    return rest[:3]
