"""The portal over HTTP, as a browser meets it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from config.bridge import as_future
from config.database import Database
from config.events import EventLog
from kb_portal.pages import Portal
from kb_portal.store import PortalStore
from tests.kb_portal.browser import Answer, Browser

MARIA = ("maria@example.org", "maria-demo")
JONAS = ("jonas@example.org", "jonas-demo")


def is_a_page(answer: Answer) -> None:
    """Every answer to a person is a whole page that says nothing of its insides and lets nothing in."""
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert "<h1>" in answer.text
    assert "Traceback" not in answer.text
    policy = answer.header("content-security-policy")
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("referrer-policy") == "same-origin"
    assert answer.header("cache-control") == "no-store"


async def test_a_stranger_is_shown_the_login_and_then_the_page_they_wanted(browser: Browser) -> None:
    refused = await browser.get("/articles/boiler-200-pressure-drops")
    assert (refused.status, refused.header("location")) == (
        303,
        "/login?next=/articles/boiler-200-pressure-drops",
    )
    is_a_page(await browser.get(refused.header("location")))
    entered = await browser.log_in(*MARIA, target="/articles/boiler-200-pressure-drops")
    assert (entered.status, entered.header("location")) == (303, "/articles/boiler-200-pressure-drops")
    article = await browser.get(entered.header("location"))
    assert article.status == 200
    is_a_page(article)
    assert "Pressure keeps dropping" in article.text
    assert "Read the gauge cold" in article.text


async def test_home_shows_what_the_customer_owns(browser: Browser) -> None:
    await browser.log_in(*MARIA)
    home = await browser.get("/")
    is_a_page(home)
    assert "Boiler 200" in home.text
    assert "Camera S2" in home.text
    assert "Thermostat T1" not in home.text


@pytest.mark.parametrize(
    "path", ["/products/boiler-200", "/search", "/account", "/trust", "/search?q=pressure"]
)
async def test_every_page_answers(browser: Browser, path: str) -> None:
    await browser.log_in(*MARIA)
    answer = await browser.get(path)
    assert answer.status == 200
    is_a_page(answer)


async def test_what_lies_beyond_the_wall_looks_like_what_is_not_there(browser: Browser) -> None:
    await browser.log_in(*JONAS)
    beyond = await browser.get("/articles/camera-s2-pairing-fails")
    missing = await browser.get("/articles/camera-s2-pairing-fine")
    assert beyond.status == missing.status == 404
    is_a_page(beyond)
    assert beyond.text == missing.text
    products = [await browser.get(f"/products/{slug}") for slug in ("camera-s2", "nothing")]
    assert [answer.status for answer in products] == [404, 404]
    assert products[0].text == products[1].text
    found = await browser.get("/search?q=camera+pairing")
    assert "Camera S2" not in found.text


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/articles/", "/articles/UPPER", "/articles/a%00b", "/articles/%2e%2e%2fetc", "/static/../pages.py",
     "/static/x", "/articles/" + "a" * 3000, "/%ff%fe", "/products/%F0%9F%94%A5"],
)  # fmt: skip
async def test_an_address_that_is_none_gets_a_clear_answer(browser: Browser, path: str) -> None:
    await browser.log_in(*MARIA)
    answer = await browser.get(path)
    assert answer.status in (400, 404)
    assert "Traceback" not in answer.text
    assert answer.header("x-content-type-options") == "nosniff"


async def test_a_wrong_password_and_an_unknown_name_are_told_apart_by_nobody(browser: Browser) -> None:
    wrong = await browser.log_in("maria@example.org", "guess")
    unknown = await browser.log_in("nobody@example.org", "guess")
    assert wrong.status == unknown.status == 403
    assert "do not belong together" in wrong.text
    assert wrong.text.replace("maria@", "nobody@") == unknown.text
    assert "warmline_customer" not in browser.cookies


async def test_guessing_is_slowed_down(browser: Browser) -> None:
    answers = [await browser.log_in("maria@example.org", f"guess {i}") for i in range(4)]
    assert [answer.status for answer in answers] == [403, 403, 403, 429]
    assert "Too many" in answers[-1].text
    is_a_page(answers[-1])


async def test_an_empty_form_is_told_what_it_lacks(browser: Browser) -> None:
    answer = await browser.log_in("", "")
    assert answer.status == 400
    assert "fill in both" in answer.text


async def test_a_login_posted_from_elsewhere_is_refused(browser: Browser) -> None:
    forged = await browser.post("/login", {"email": MARIA[0], "password": MARIA[1]})
    assert forged.status == 403
    await browser.get("/login")
    forged = await browser.post("/login", {"email": MARIA[0], "password": MARIA[1], "form_token": "x" * 43})
    assert forged.status == 403
    assert "warmline_customer" not in browser.cookies


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "http://["],
)
async def test_a_login_leads_nowhere_but_here(browser: Browser, target: str) -> None:
    entered = await browser.log_in(*MARIA, target=target)
    assert entered.status == 303
    assert entered.header("location") == "/"


@pytest.mark.parametrize("name", ["hx-request", "referer", "sec-purpose", "accept-encoding"])
async def test_a_header_of_nonsense_is_as_good_as_none(browser: Browser, name: str) -> None:
    nonsense = Headers()
    nonsense.addRawHeader(name.encode(), b"\xff\xfe")
    assert (await browser.ask(b"GET", "/", None, {}, also=nonsense)).status in (200, 303)
    await browser.log_in(*MARIA)
    for path in ("/articles/camera-s2-pairing-fails", "/static/portal.css"):
        assert (await browser.ask(b"GET", path, None, {}, also=nonsense)).status == 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(body=st.binary(max_size=400))
async def test_a_form_of_nonsense_gets_a_page(browser: Browser, body: bytes) -> None:
    answer = await browser.post("/login", body)
    assert answer.status in (400, 403)
    assert "Traceback" not in answer.text


async def test_a_form_that_is_too_large_is_refused(browser: Browser) -> None:
    answer = await browser.post("/login", b"email=" + b"x" * 70000)
    assert answer.status == 413
    is_a_page(answer)


async def test_what_is_typed_is_never_markup(browser: Browser) -> None:
    await browser.log_in(*MARIA)
    answer = await browser.get("/search?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E%00")
    assert answer.status == 200
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;" in answer.text


async def test_an_article_that_is_opened_is_tracked_with_where_from(
    browser: Browser, events: EventLog, store: PortalStore
) -> None:
    await browser.log_in(*MARIA)
    await browser.get("/search?q=amber+ring")
    page = await browser.get(
        "/articles/camera-s2-pairing-fails", referer=f"{browser.origin}/search?q=amber+ring"
    )
    kinds = [event.kind for event in await events.read()]
    assert kinds == ["visit.searched", "visit.page_viewed"]
    trail = await store.trail(page.attribute("data-visit"), customer_id="maria")
    assert trail is not None
    assert [(view.title, view.referrer, view.search) for view in trail.views] == [
        ("Pairing fails", "/search", "amber ring")
    ]
    assert trail.searches[0].hits >= 1
    assert (page.attribute("data-product"), page.attribute("data-article")) == (
        "camera-s2",
        "camera-s2-pairing-fails",
    )


async def test_a_page_fetched_ahead_or_only_asked_about_is_not_read(
    browser: Browser, events: EventLog
) -> None:
    await browser.log_in(*MARIA)
    path = "/articles/camera-s2-pairing-fails"
    await browser.ask(b"HEAD", path, None, {})
    await browser.get(path, sec_purpose="prefetch")
    assert await events.read() == []


async def test_beats_of_the_page_count_for_its_owner_within_the_time_that_passed(
    new_browser: Callable[[], Browser], store: PortalStore, clock: Clock
) -> None:
    maria, jonas = new_browser(), new_browser()
    await maria.log_in(*MARIA)
    await jonas.log_in(*JONAS)
    page = await maria.get("/articles/boiler-200-noise")
    view, visit = page.attribute("data-view"), page.attribute("data-visit")
    others = (await jonas.get("/")).hidden("csrf")
    clock.advance(20)

    async def seconds() -> float:
        trail = await store.trail(visit)
        assert trail is not None
        return trail.views[0].seconds

    assert (await jonas.post("/track", {"csrf": others, "view": view, "seconds": "15"})).status == 204
    assert await seconds() == 0
    assert (await maria.post("/track", {"view": view, "seconds": "15"})).status == 403
    assert await seconds() == 0
    csrf = page.hidden("csrf")
    assert (await maria.post("/track", {"csrf": csrf, "view": view, "seconds": "15.5"})).status == 204
    assert await seconds() == 15.5
    assert (await maria.post("/track", {"csrf": csrf, "view": view, "seconds": "900"})).status == 204
    assert await seconds() == 20
    assert (await maria.post("/track", {"csrf": csrf, "view": "'; DROP", "seconds": "1"})).status == 400
    assert (await maria.post("/track", {"csrf": csrf, "view": view, "seconds": "many"})).status == 204
    assert await seconds() == 20


async def test_logging_out_needs_the_customers_own_form_and_then_nothing_is_shown(browser: Browser) -> None:
    await browser.log_in(*MARIA)
    assert (await browser.post("/logout", {})).status == 403
    assert (await browser.get("/")).status == 200
    csrf = (await browser.get("/account")).hidden("csrf")
    assert (await browser.post("/logout", {"csrf": csrf})).header("location") == "/login"
    assert (await browser.get("/")).status == 303


async def test_a_script_whose_login_is_over_is_told_to_move_the_window(browser: Browser) -> None:
    answer = await browser.get("/account", hx_request="true")
    assert (answer.status, answer.header("hx-redirect")) == (200, "/login?next=/account")


async def test_static_files_last_under_their_version_and_no_longer(browser: Browser) -> None:
    page = await browser.get("/login")
    found = re.search(r'href="(/static/[0-9a-f]{12}/portal\.css)"', page.text)
    assert found is not None
    lasting = await browser.get(found.group(1), accept_encoding="identity")
    assert lasting.header("cache-control") == "public, max-age=31536000, immutable"
    assert lasting.header("content-type") == "text/css; charset=utf-8"
    packed = await browser.get(found.group(1), accept_encoding="gzip")
    assert packed.header("content-encoding") == "gzip"
    assert len(packed.body) < len(lasting.body)
    old = await browser.get("/static/0123456789ab/portal.css", accept_encoding="identity")
    assert (old.status, old.header("cache-control"), old.body) == (200, "no-cache", lasting.body)
    drawing = await browser.get("/static/img/boiler-gauge.svg", accept_encoding="identity")
    assert drawing.header("content-type") == "image/svg+xml"
    assert "sandbox" in drawing.header("content-security-policy")


async def test_no_page_has_a_script_or_a_style_of_its_own(browser: Browser) -> None:
    await browser.log_in(*MARIA)
    for path in ("/", "/articles/camera-s2-pairing-fails", "/account", "/search?q=x"):
        text = (await browser.get(path)).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style|\sstyle=", text)


async def test_the_certificate_can_be_fetched_where_the_house_made_it(browser: Browser) -> None:
    fetched = await browser.get("/ca.pem")
    assert fetched.status == 200
    assert fetched.body.startswith(b"-----BEGIN CERTIFICATE-----")
    assert fetched.header("content-type") == "application/x-x509-ca-cert"


async def test_what_breaks_inside_stays_inside(
    browser: Browser, portal: Portal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await browser.log_in(*MARIA)

    async def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(portal._store, "articles", broken)
    answer = await browser.get("/")
    assert answer.status == 500
    is_a_page(answer)
    assert "secret" not in answer.text


async def test_a_customer_who_is_gone_is_logged_in_no_more(browser: Browser, database: Database) -> None:
    await browser.log_in(*JONAS)
    await database.write(sa.text("DELETE FROM ownership WHERE customer_id = 'jonas'"))
    home = await browser.get("/")
    assert home.status == 200
    assert "No product is registered" in home.text
    await database.write(sa.text("DELETE FROM customer WHERE id = 'jonas'"))
    assert (await browser.get("/")).status == 303


async def test_only_the_methods_of_a_page_are_answered(browser: Browser) -> None:
    await browser.log_in(*MARIA)
    assert (await browser.post("/account", {})).status == 405


async def test_the_help_dock_is_on_every_page_outside_what_navigation_swaps(browser: Browser) -> None:
    await browser.log_in(*MARIA)
    for path in (
        "/",
        "/products/camera-s2",
        "/articles/camera-s2-pairing-fails",
        "/search",
        "/account",
        "/nothing",
    ):
        main, dock = (await browser.get(path)).text.split("</main>")
        assert 'id="help"' not in main
        assert 'data-state="idle"' in dock
        for element in (
            "help-button", "help-sheet", "help-choices", "help-hangup", "remote-video", "local-video",
            "chat-log", "chat-input", "chat-send", "feedback-yes", "feedback-no",
        ):  # fmt: skip
            assert f'id="{element}"' in dock, (path, element)


async def test_every_file_a_page_names_is_there(browser: Browser) -> None:
    await browser.log_in(*MARIA)
    for path in (
        "/",
        "/products/boiler-200",
        "/articles/camera-s2-pairing-fails",
        "/search?q=zzzz",
        "/trust",
    ):
        for name in set(re.findall(r'(?:src|href)="(/static/[^"]+)"', (await browser.get(path)).text)):
            if "/vendor/" not in name:  # built by make, and not from here
                assert (await browser.get(name)).status == 200, name


async def test_the_portal_may_stand_under_another_root(portal: Portal) -> None:
    """Its resource takes the whole path, whether the site hands it over as root or as the last resort."""
    from twisted.internet import reactor
    from twisted.web.resource import IResource, Resource, getChildForRequest
    from twisted.web.server import Request, Site

    class Whole(Resource):
        isLeaf = True

        def render(self, request: Request) -> bytes | int:
            child: IResource = getChildForRequest(portal.resource(), request)
            answer: bytes | int = child.render(request)
            return answer

    site: Any = Site(Whole())  # type: ignore[no-untyped-call]
    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
    under = Browser(reactor, f"http://127.0.0.1:{port.getHost().port}")
    assert (await under.log_in(*MARIA)).status == 303
    assert "Hello Maria" in (await under.get("/")).text
    assert "Pairing fails" in (await under.get("/articles/camera-s2-pairing-fails")).text
    await as_future(port.stopListening())
