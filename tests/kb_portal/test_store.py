"""The tenant wall, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from config.database import Database
from config.login import Logins
from kb_portal import sample
from kb_portal.customer import Customer
from kb_portal.store import PortalStore
from kb_portal.tracking import Tracker
from tests.config.postgres import Postgres
from tests.conftest import run


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres.start(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    sqlite = request.param == "sqlite"
    opened = Database.open("sqlite://" if sqlite else request.getfixturevalue("postgres").new_database())
    run(opened.create_all())
    yield opened
    run(opened.close())


async def test_a_customer_reads_the_articles_of_their_providers_and_no_others(store: PortalStore) -> None:
    providers = {article.provider_id for article in await store.articles("jonas")}
    assert providers == {"thermea"}
    assert await store.article("jonas", "boiler-200-pressure-drops") is not None
    assert await store.article("jonas", "camera-s2-pairing-fails") is None
    assert await store.article_by_id("jonas", "camera-s2-pairing-fails") is None
    assert await store.article("jonas", "no-such-article") is None


async def test_articles_about_what_a_customer_owns_come_first(store: PortalStore) -> None:
    of_own = [article.product_id in ("boiler-200", "camera-s2") for article in await store.articles("maria")]
    assert of_own == sorted(of_own, reverse=True)
    assert not all(of_own)


async def test_articles_about_a_product_include_those_about_all_its_provider_sells(
    store: PortalStore,
) -> None:
    found = {
        article.id: article.product_id for article in await store.articles("maria", product_id="camera-s2")
    }
    assert found.pop("lumio-plan") is None
    assert found
    assert set(found.values()) == {"camera-s2"}


async def test_articles_about_a_product_beyond_the_wall_are_none(store: PortalStore) -> None:
    assert await store.articles("jonas", product_id="camera-s2") == ()
    assert await store.numbers_for("jonas", "camera-s2") == ()


async def test_who_owns_nothing_reads_nothing(store: PortalStore) -> None:
    await store.add_customer(Customer("new", "New One", "New@Example.org ", None, False), "hash")
    assert await store.articles("new") == ()
    assert await store.owned("new") == ()
    found = await store.customer_for_login("NEW@example.org")
    assert found is not None
    assert found[0].email == "new@example.org"


async def test_a_product_has_its_own_number_before_its_providers(store: PortalStore) -> None:
    assert await store.numbers_for("maria", "boiler-200") == ("+15550200", "+15550201")
    assert await store.numbers_for("jonas", "thermostat-t1") == ("+15550201",)
    number = await store.number("+15550300")
    assert number is not None
    assert (number.provider_id, number.product_id) == ("lumio", "camera-s2")
    assert await store.number("+15550999") is None


async def test_only_a_proved_number_tells_who_calls(store: PortalStore) -> None:
    maria = await store.customer_by_phone("+15550100001")
    assert maria is not None
    assert maria.id == "maria"
    assert await store.customer_by_phone("+15550100003") is None  # Aiko's is not proved
    assert await store.customer_by_phone("") is None


async def test_a_number_two_people_proved_tells_nobody(store: PortalStore) -> None:
    await store.add_customer(Customer("luis", "Luis Lopez", "luis@example.org", "+15550100001", True), "hash")
    assert await store.customer_by_phone("+15550100001") is None


async def test_a_trail_tells_what_was_read_searched_and_owned(store: PortalStore, tracker: Tracker) -> None:
    article = await store.article("maria", "camera-s2-pairing-fails")
    product = await store.product("boiler-200")
    first = await tracker.open_view("maria", product=product)
    await tracker.searched("maria", "pairing", 3)
    await tracker.open_view("maria", article=article, referrer="/search", search="pairing")
    trail = await store.trail(first.visit_id)
    assert trail is not None
    assert [view.title for view in trail.views] == ["Boiler 200", "Pairing fails"]
    assert [view.product_id for view in trail.views] == ["boiler-200", "camera-s2"]
    assert trail.views[1].skills == ("wifi-pairing",)
    assert "pairing" in trail.views[1].tags
    assert (trail.views[1].referrer, trail.views[1].search) == ("/search", "pairing")
    assert [(search.text, search.hits) for search in trail.searches] == [("pairing", 3)]
    assert {owned.product.id for owned in trail.products_owned} == {"boiler-200", "camera-s2"}


async def test_anothers_visit_is_as_one_that_is_not_there(store: PortalStore, tracker: Tracker) -> None:
    visit_id = await tracker.visit("maria")
    assert await store.trail(visit_id, customer_id="maria") is not None
    assert await store.trail(visit_id, customer_id="jonas") is None
    assert await store.trail("v_nothing") is None


async def test_the_sample_can_be_filled_in_again_and_loses_nothing(
    store: PortalStore, logins: Logins, database: Database
) -> None:
    async def count() -> dict[str, int]:
        names = ("provider", "product", "provider_number", "customer", "ownership", "article")
        return {name: len(await store.ids(name)) for name in names}

    before = await count()
    await database.write(sa.text("UPDATE customer SET name = 'Maria Changed' WHERE id = 'maria'"))
    await database.write(sa.text("DELETE FROM article WHERE id = 'invoice' OR id = 'thermea-invoice'"))
    await sample.seed(store, logins)
    assert await count() == before
    maria = await store.customer("maria")
    assert maria is not None
    assert maria.name == "Maria Changed"


async def test_the_stamp_changes_when_an_article_does(store: PortalStore, database: Database) -> None:
    before = await store.articles_stamp()
    await database.write(sa.text("UPDATE article SET updated_at = updated_at + 1 WHERE id = 'lumio-plan'"))
    assert await store.articles_stamp() != before


async def test_beats_keep_the_longest_time_within_the_time_that_passed(
    store: PortalStore, tracker: Tracker, now: Callable[[], float]
) -> None:
    opened = await tracker.open_view("maria", product=await store.product("boiler-200"))

    async def seconds() -> float:
        trail = await store.trail(opened.visit_id)
        assert trail is not None
        return trail.views[0].seconds

    await store.read_for("maria", opened.view_id, 9.0, now() + 10)
    assert await seconds() == 9
    await store.read_for("maria", opened.view_id, 5.0, now() + 11)
    assert await seconds() == 9
    await store.read_for("maria", opened.view_id, 5000.0, now() + 12)
    assert await seconds() == 12
    await store.read_for("jonas", opened.view_id, 60.0, now() + 100)
    assert await seconds() == 12
