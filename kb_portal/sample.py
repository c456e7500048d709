"""Sample data that makes the portal understandable at once: two providers, four products, three customers.

The articles are the TOML files in sample_articles/, one each, named by their slug.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.login import Logins
from kb_portal.article import Article, article_from
from kb_portal.customer import Customer
from kb_portal.product import Product
from kb_portal.provider import Provider, ProviderNumber
from kb_portal.store import PortalStore

_ARTICLES = Path(__file__).parent / "sample_articles"
_WRITTEN_AT = datetime(2026, 3, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class SampleCustomer:
    """`owns` is (product, serial, year and month it was bought). The password is for trying out, and printed."""

    customer: Customer
    password: str
    owns: tuple[tuple[str, str, tuple[int, int]], ...]


PROVIDERS = (
    Provider("thermea", "thermea", "Thermea Heating"),
    Provider("lumio", "lumio", "Lumio Home"),
)
PRODUCTS = (
    Product(
        "boiler-200",
        "thermea",
        "boiler-200",
        "Boiler 200",
        "Gas combination boiler",
        "Heats the house and the water in one casing the size of a kitchen cupboard.",
        "product-boiler.svg",
        ("heating", "boiler-hydraulics"),
    ),
    Product(
        "thermostat-t1",
        "thermea",
        "thermostat-t1",
        "Thermostat T1",
        "Wireless room thermostat",
        "One dial, a week's schedule, and a receiver beside the boiler.",
        "product-thermostat.svg",
        ("heating",),
    ),
    Product(
        "camera-s2",
        "lumio",
        "camera-s2",
        "Camera S2",
        "Outdoor camera",
        "Sees by night, knows a person from a cat, and keeps what it saw for you alone.",
        "product-camera.svg",
        ("video-diagnosis", "wifi-pairing"),
    ),
    Product(
        "hub-mini",
        "lumio",
        "hub-mini",
        "Hub Mini",
        "Smart home hub",
        "Joins lamps, switches and sensors, and goes on working when the internet does not.",
        "product-hub.svg",
        ("smart-home",),
    ),
)
NUMBERS = (
    ProviderNumber("+15550200", "thermea", "boiler-200"),
    ProviderNumber("+15550201", "thermea", None),
    ProviderNumber("+15550300", "lumio", "camera-s2"),
    ProviderNumber("+15550301", "lumio", None),
)
CUSTOMERS = (
    SampleCustomer(
        Customer("maria", "Maria Lopez", "maria@example.org", "+15550100001", True),
        "maria-demo",
        (("boiler-200", "TB2-4471-0932", (2023, 10)), ("camera-s2", "S2-88-20417", (2025, 5))),
    ),
    SampleCustomer(
        Customer("jonas", "Jonas Weber", "jonas@example.org", "+15550100002", True),
        "jonas-demo",
        (("boiler-200", "TB2-3810-1174", (2021, 11)), ("thermostat-t1", "T1-006-5529", (2024, 1))),
    ),
    SampleCustomer(
        Customer("aiko", "Aiko Tanaka", "aiko@example.org", "+15550100003", False),
        "aiko-demo",
        (("camera-s2", "S2-91-00763", (2025, 11)), ("hub-mini", "HM-2-77150", (2025, 11))),
    ),
)


def articles() -> tuple[Article, ...]:
    return tuple(_read(path) for path in sorted(_ARTICLES.glob("*.toml")))


async def seed(store: PortalStore, logins: Logins) -> None:
    """Add what is missing of the sample; what is there stays as it is, so it may run at every start."""
    there = await store.ids("provider")
    for provider in PROVIDERS:
        if provider.id not in there:
            await store.add_provider(provider)
    there = await store.ids("product")
    for product in PRODUCTS:
        if product.id not in there:
            await store.add_product(product)
    there = await store.ids("provider_number")
    for number in NUMBERS:
        if number.number not in there:
            await store.add_number(number)
    there = await store.ids("article")
    for article in articles():
        if article.id not in there:
            await store.add_article(article)
    there = await store.ids("customer")
    for sample in CUSTOMERS:
        if sample.customer.id not in there:
            await store.add_customer(sample.customer, await logins.hash_password(sample.password))
    there = await store.ids("ownership")
    for sample in CUSTOMERS:
        for product_id, serial, (year, month) in sample.owns:
            ownership_id = f"{sample.customer.id}-{product_id}"
            if ownership_id not in there:
                bought_at = datetime(year, month, 15, tzinfo=UTC).timestamp()
                await store.add_ownership(ownership_id, sample.customer.id, product_id, serial, bought_at)


def _read(path: Path) -> Article:
    written = tomllib.loads(path.read_text("utf-8"))
    facts = {
        "id": path.stem,
        "slug": path.stem,
        "provider_id": written["provider"],
        "product_id": written.get("product"),
        "title": written["title"],
        "summary": written["summary"],
        "tags": written["tags"],
        "skills": written["skills"],
        "updated_at": _WRITTEN_AT,
    }
    return article_from(facts, written["body"])
