"""The tables of the portal and every query on them.

The tenant wall stands here: whatever a customer reads is asked for by their id and limited to the providers whose
products they own, so that what lies beyond the wall and what does not exist give the same answer, nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Executable,
    Float,
    ForeignKey,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    Text,
    bindparam,
    case,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from config.database import Database, metadata
from kb_portal.article import Article, article_from, body_to_json
from kb_portal.customer import Customer, normal_email
from kb_portal.product import OwnedProduct, Product
from kb_portal.provider import Provider, ProviderNumber
from kb_portal.visit import PageView, Search, Trail

provider = Table(
    "provider",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("slug", String(80), nullable=False, unique=True),
    Column("name", String(120), nullable=False),
)
product = Table(
    "product",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("provider_id", ForeignKey("provider.id"), nullable=False, index=True),
    Column("slug", String(80), nullable=False, unique=True),
    Column("name", String(120), nullable=False),
    Column("kind", String(120), nullable=False, default=""),
    Column("summary", Text, nullable=False, default=""),
    Column("picture", String(120), nullable=False, default=""),
    Column("skills", JSON, nullable=False, default=list),
)
provider_number = Table(
    "provider_number",
    metadata,
    Column("number", String(32), primary_key=True),
    Column("provider_id", ForeignKey("provider.id"), nullable=False),
    Column("product_id", ForeignKey("product.id"), nullable=True),
)
customer = Table(
    "customer",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(120), nullable=False),
    Column("email", String(254), nullable=False, unique=True),
    Column("password_hash", String(255), nullable=False),
    Column("phone", String(32), nullable=True, index=True),
    Column("phone_proved", Boolean, nullable=False, default=False),
    Column("language", String(20), nullable=True),
)
ownership = Table(
    "ownership",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("customer_id", ForeignKey("customer.id"), nullable=False, index=True),
    Column("product_id", ForeignKey("product.id"), nullable=False),
    Column("serial", String(80), nullable=False, default=""),
    Column("bought_at", Float, nullable=True),
)
article = Table(
    "article",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("provider_id", ForeignKey("provider.id"), nullable=False, index=True),
    Column("product_id", ForeignKey("product.id"), nullable=True),
    Column("slug", String(80), nullable=False, unique=True),
    Column("title", String(200), nullable=False),
    Column("summary", Text, nullable=False, default=""),
    Column("body", JSON, nullable=False),
    Column("tags", JSON, nullable=False, default=list),
    Column("skills", JSON, nullable=False, default=list),
    Column("updated_at", Float, nullable=False),
)
visit = Table(
    "visit",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("customer_id", ForeignKey("customer.id"), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    Index("visit_by_customer", "customer_id", "last_seen_at"),
)
page_view = Table(
    "page_view",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("visit_id", ForeignKey("visit.id"), nullable=False, index=True),
    Column("customer_id", String(64), nullable=False),
    Column("article_id", ForeignKey("article.id"), nullable=True),
    Column("product_id", ForeignKey("product.id"), nullable=True),
    Column("opened_at", Float, nullable=False),
    Column("seconds", Float, nullable=False, default=0.0),
    Column("referrer", String(300), nullable=False, default=""),
    Column("search", String(200), nullable=False, default=""),
)
search_made = Table(
    "search_made",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("visit_id", ForeignKey("visit.id"), nullable=False, index=True),
    Column("customer_id", String(64), nullable=False),
    Column("text", String(200), nullable=False),
    Column("hits", Integer, nullable=False),
    Column("at", Float, nullable=False),
)


# Asked at every call from outside: a statement that never changes is put together once.
_BY_PHONE = (
    select(customer).where(customer.c.phone == bindparam("e164"), customer.c.phone_proved.is_(True)).limit(2)
)


class PortalStore:
    """Everything the portal reads and keeps. Reads answer None or nothing where there is nothing to be seen."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What providers sell. These know no customer: for the house itself, never for a page a customer opens.

    async def provider(self, provider_id: str) -> Provider | None:
        row = await self._one(select(provider).where(provider.c.id == provider_id))
        return Provider(row.id, row.slug, row.name) if row is not None else None

    async def product(self, product_id: str) -> Product | None:
        row = await self._one(select(product).where(product.c.id == product_id))
        return _product(row) if row is not None else None

    async def number(self, number: str) -> ProviderNumber | None:
        """Whose number was dialled."""
        row = await self._one(select(provider_number).where(provider_number.c.number == number))
        return ProviderNumber(row.number, row.provider_id, row.product_id) if row is not None else None

    async def numbers(self) -> tuple[ProviderNumber, ...]:
        rows = await self._database.read(select(provider_number).order_by(provider_number.c.number))
        return tuple(ProviderNumber(row.number, row.provider_id, row.product_id) for row in rows)

    async def all_articles(self) -> tuple[Article, ...]:
        """For the search index, which puts the walls up itself at each search."""
        rows = await self._database.read(select(article).order_by(article.c.id))
        return tuple(_article(row) for row in rows)

    async def articles_stamp(self) -> tuple[int, float]:
        """Changes whenever any article does, so that every node may know its index is old."""
        row = await self._one(select(func.count(), func.max(article.c.updated_at)).select_from(article))
        return (row[0], row[1] or 0.0) if row is not None else (0, 0.0)

    # Customers and what they own.

    async def customer(self, customer_id: str) -> Customer | None:
        row = await self._one(select(customer).where(customer.c.id == customer_id))
        return _customer(row) if row is not None else None

    async def customer_for_login(self, email: str) -> tuple[Customer, str] | None:
        """The customer and their password hash."""
        row = await self._one(select(customer).where(customer.c.email == normal_email(email)))
        return (_customer(row), row.password_hash) if row is not None else None

    async def customer_by_phone(self, e164: str) -> Customer | None:
        """Who has proved this number to be theirs. Nobody, when two people share it: a guess could be wrong."""
        rows = await self._database.read(_BY_PHONE, {"e164": e164})
        return _customer(rows[0]) if len(rows) == 1 else None

    async def owned(self, customer_id: str) -> tuple[OwnedProduct, ...]:
        rows = await self._database.read(
            select(product, ownership.c.serial, ownership.c.bought_at, provider.c.name.label("provider_name"))
            .join(ownership, ownership.c.product_id == product.c.id)
            .join(provider, provider.c.id == product.c.provider_id)
            .where(ownership.c.customer_id == customer_id)
            .order_by(product.c.name, ownership.c.id)
        )
        return tuple(OwnedProduct(_product(r), r.provider_name, r.serial, r.bought_at) for r in rows)

    async def numbers_for(self, customer_id: str, product_id: str) -> tuple[str, ...]:
        """The numbers to ring about a product the customer owns: its own first, then its provider's general ones."""
        rows = await self._database.read(
            select(provider_number.c.number)
            .join(product, product.c.provider_id == provider_number.c.provider_id)
            .where(
                product.c.id == product_id,
                product.c.provider_id.in_(_providers_of(customer_id)),
                or_(provider_number.c.product_id == product_id, provider_number.c.product_id.is_(None)),
            )
            .order_by(provider_number.c.product_id.is_(None), provider_number.c.number)
        )
        return tuple(row.number for row in rows)

    # Articles, behind the wall.

    async def article(self, customer_id: str, slug: str) -> Article | None:
        row = await self._one(_readable(customer_id).where(article.c.slug == slug))
        return _article(row) if row is not None else None

    async def article_by_id(self, customer_id: str, article_id: str) -> Article | None:
        row = await self._one(_readable(customer_id).where(article.c.id == article_id))
        return _article(row) if row is not None else None

    async def articles(self, customer_id: str, *, product_id: str | None = None) -> tuple[Article, ...]:
        """All the customer may read; with `product_id`, those about it and those about all its provider sells."""
        statement = _readable(customer_id)
        if product_id is not None:
            its_provider = select(product.c.provider_id).where(product.c.id == product_id).scalar_subquery()
            statement = statement.where(
                article.c.provider_id == its_provider,
                or_(article.c.product_id == product_id, article.c.product_id.is_(None)),
            )
        rows = await self._database.read(statement)
        return tuple(_article(row) for row in rows)

    # Visits.

    async def latest_visit(self, customer_id: str, seen_since: float) -> str | None:
        """The customer's last visit if it was still alive at `seen_since`."""
        row = await self._one(
            select(visit.c.id)
            .where(visit.c.customer_id == customer_id, visit.c.last_seen_at >= seen_since)
            .order_by(visit.c.last_seen_at.desc())
            .limit(1)
        )
        return str(row.id) if row is not None else None

    def start_visit(self, visit_id: str, customer_id: str, at: float) -> asyncio.Future[None]:
        return self._database.write(
            insert(visit).values(id=visit_id, customer_id=customer_id, started_at=at, last_seen_at=at)
        )

    def add_view(
        self,
        view_id: str,
        visit_id: str,
        customer_id: str,
        *,
        article_id: str | None,
        product_id: str | None,
        at: float,
        referrer: str,
        search: str,
    ) -> asyncio.Future[None]:
        return self._database.write(
            insert(page_view).values(
                id=view_id,
                visit_id=visit_id,
                customer_id=customer_id,
                article_id=article_id,
                product_id=product_id,
                opened_at=at,
                seconds=0.0,
                referrer=referrer,
                search=search,
            ),
            _seen(visit_id, at),
        )

    def read_for(self, customer_id: str, view_id: str, seconds: float, at: float) -> asyncio.Future[None]:
        """The page was in sight for `seconds` in all, but never for longer than it has been open by our own clock.

        A view that is not this customer's stays as it is. Beats that come late or twice change nothing.
        """
        open_for = literal(at) - page_view.c.opened_at
        bounded = case((open_for < seconds, open_for), else_=literal(seconds))
        of_view = select(page_view.c.visit_id).where(
            page_view.c.id == view_id, page_view.c.customer_id == customer_id
        )
        return self._database.write(
            update(page_view)
            .where(
                page_view.c.id == view_id,
                page_view.c.customer_id == customer_id,
                page_view.c.seconds < bounded,
            )
            .values(seconds=bounded),
            update(visit)
            .where(visit.c.id == of_view.scalar_subquery(), visit.c.last_seen_at < at)
            .values(last_seen_at=at),
        )

    def add_search(
        self, search_id: str, visit_id: str, customer_id: str, text: str, hits: int, at: float
    ) -> asyncio.Future[None]:
        return self._database.write(
            insert(search_made).values(
                id=search_id, visit_id=visit_id, customer_id=customer_id, text=text, hits=hits, at=at
            ),
            _seen(visit_id, at),
        )

    async def trail(self, visit_id: str, *, customer_id: str | None = None) -> Trail | None:
        """What was done in one visit. With `customer_id`, for an id a browser sent, another's visit is None."""
        statement = select(visit.c.id, visit.c.customer_id).where(visit.c.id == visit_id)
        if customer_id is not None:
            statement = statement.where(visit.c.customer_id == customer_id)
        its_visit = await self._one(statement)
        if its_visit is None:
            return None
        views = await self._database.read(
            select(
                page_view,
                func.coalesce(article.c.title, product.c.name, "").label("title"),
                article.c.tags,
                article.c.skills,
            )
            .select_from(page_view)
            .outerjoin(article, article.c.id == page_view.c.article_id)
            .outerjoin(product, product.c.id == page_view.c.product_id)
            .where(page_view.c.visit_id == visit_id)
            .order_by(page_view.c.opened_at, page_view.c.id)
        )
        searches = await self._database.read(
            select(search_made).where(search_made.c.visit_id == visit_id).order_by(search_made.c.at)
        )
        return Trail(
            visit_id,
            its_visit.customer_id,
            tuple(_view(row) for row in views),
            tuple(Search(row.text, row.at, row.hits) for row in searches),
            await self.owned(its_visit.customer_id),
        )

    # Adding what the house offers. An id that is taken is refused by the database.

    def add_provider(self, new: Provider) -> asyncio.Future[None]:
        return self._database.write(insert(provider).values(id=new.id, slug=new.slug, name=new.name))

    def add_product(self, new: Product) -> asyncio.Future[None]:
        values = {name: getattr(new, name) for name in Product.__slots__} | {"skills": list(new.skills)}
        return self._database.write(insert(product).values(**values))

    def add_number(self, new: ProviderNumber) -> asyncio.Future[None]:
        return self._database.write(
            insert(provider_number).values(
                number=new.number, provider_id=new.provider_id, product_id=new.product_id
            )
        )

    def add_customer(self, new: Customer, password_hash: str) -> asyncio.Future[None]:
        return self._database.write(
            insert(customer).values(
                id=new.id,
                name=new.name,
                email=normal_email(new.email),
                password_hash=password_hash,
                phone=new.phone,
                phone_proved=new.phone_proved,
                language=new.language,
            )
        )

    def add_ownership(
        self, ownership_id: str, customer_id: str, product_id: str, serial: str, bought_at: float | None
    ) -> asyncio.Future[None]:
        return self._database.write(
            insert(ownership).values(
                id=ownership_id,
                customer_id=customer_id,
                product_id=product_id,
                serial=serial,
                bought_at=bought_at,
            )
        )

    def add_article(self, new: Article) -> asyncio.Future[None]:
        return self._database.write(
            insert(article).values(
                id=new.id,
                provider_id=new.provider_id,
                product_id=new.product_id,
                slug=new.slug,
                title=new.title,
                summary=new.summary,
                body=body_to_json(new),
                tags=list(new.tags),
                skills=list(new.skills),
                updated_at=new.updated_at,
            )
        )

    async def ids(self, table_name: str) -> frozenset[str]:
        """The primary keys one of this package's tables holds, for filling in what is missing."""
        key = next(iter(_FILLABLE[table_name].primary_key.columns))
        return frozenset(row[0] for row in await self._database.read(select(key)))

    async def _one(self, statement: Executable) -> Any:
        rows: Sequence[Row[Any]] = await self._database.read(statement)
        return rows[0] if rows else None


_FILLABLE = {t.name: t for t in (provider, product, provider_number, customer, ownership, article)}


def _providers_of(customer_id: str) -> Select[Any]:
    return (
        select(product.c.provider_id)
        .join(ownership, ownership.c.product_id == product.c.id)
        .where(ownership.c.customer_id == customer_id)
    )


def _readable(customer_id: str) -> Select[Any]:
    """Articles on the customer's side of the wall, those about things they own first."""
    own = select(ownership.c.product_id).where(ownership.c.customer_id == customer_id)
    return (
        select(article)
        .where(article.c.provider_id.in_(_providers_of(customer_id)))
        .order_by(case((article.c.product_id.in_(own), 0), else_=1), article.c.title)
    )


def _seen(visit_id: str, at: float) -> Any:
    return update(visit).where(visit.c.id == visit_id, visit.c.last_seen_at < at).values(last_seen_at=at)


def _customer(row: Row[Any]) -> Customer:
    return Customer(row.id, row.name, row.email, row.phone, bool(row.phone_proved), row.language)


def _product(row: Row[Any]) -> Product:
    return Product(
        row.id,
        row.provider_id,
        row.slug,
        row.name,
        row.kind,
        row.summary,
        row.picture,
        tuple(row.skills or ()),
    )


def _article(row: Row[Any]) -> Article:
    return article_from(row._asdict(), row.body)


def _view(row: Row[Any]) -> PageView:
    return PageView(
        article_id=row.article_id,
        title=row.title,
        product_id=row.product_id,
        tags=tuple(row.tags or ()),
        opened_at=row.opened_at,
        seconds=row.seconds,
        referrer=row.referrer,
        skills=tuple(row.skills or ()),
        search=row.search,
    )
