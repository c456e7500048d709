"""A Provider is a tenant: a company whose products this contact centre supports, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provider:
    id: str
    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class ProviderNumber:
    """A telephone number (E.164) people dial to reach the support of one provider, or of one of its products."""

    number: str
    provider_id: str
    product_id: str | None
