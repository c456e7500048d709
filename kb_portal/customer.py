"""The people who are helped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Customer:
    """`phone` is E.164. Only a number the customer has proved to be theirs may match a caller to them.

    `language` is what they want to be spoken to in, as `de`; None: any.
    """

    id: str
    name: str
    email: str
    phone: str | None
    phone_proved: bool
    language: str | None = None

    @property
    def first_name(self) -> str:
        return self.name.split()[0] if self.name.split() else self.name


def normal_email(text: str) -> str:
    """The form in which e-mail addresses are stored and compared."""
    return text.strip().casefold()
