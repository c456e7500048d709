"""What providers sell, and which customer owns one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """`skills` are those an agent needs for it when nothing more is known, as for a caller by telephone."""

    id: str
    provider_id: str
    slug: str
    name: str
    kind: str
    summary: str
    picture: str
    skills: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OwnedProduct:
    """One thing a customer has at home. `bought_at` is in epoch seconds, None when it was not told."""

    product: Product
    provider_name: str
    serial: str
    bought_at: float | None
