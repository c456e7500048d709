"""The sample is what people meet first: it must be whole."""

from __future__ import annotations

import re
from pathlib import Path

import kb_portal
from kb_portal import sample

IMAGES = Path(kb_portal.__file__).parent / "static" / "img"
SKILLS = {"heating", "boiler-hydraulics", "wifi-pairing", "video-diagnosis", "smart-home", "billing"}


def test_every_article_has_a_drawing_of_its_own_that_is_there() -> None:
    pictures = [article.picture for article in sample.articles()]
    assert len(pictures) >= 12
    assert len(set(pictures)) == len(pictures)
    for picture in pictures:
        assert (IMAGES / picture).read_text("utf-8").startswith("<svg")


def test_every_article_has_steps_words_and_known_skills() -> None:
    products = {product.id: product for product in sample.PRODUCTS}
    for article in sample.articles():
        assert len(article.steps) >= 3, article.id
        assert article.summary, article.id
        assert article.picture_text, article.id
        assert article.outcome, article.id
        assert article.tags, article.id
        assert set(article.skills) <= SKILLS, article.id
        assert article.skills, article.id
        if article.product_id is not None:
            assert products[article.product_id].provider_id == article.provider_id, article.id


def test_different_reading_asks_for_different_skills() -> None:
    by_id = {article.id: set(article.skills) for article in sample.articles()}
    assert by_id["camera-s2-pairing-fails"].isdisjoint(by_id["boiler-200-pressure-drops"])
    assert set().union(*by_id.values()) == SKILLS


def test_the_articles_others_rely_on_are_there() -> None:
    titles = {article.slug: article.title for article in sample.articles()}
    assert titles["camera-s2-pairing-fails"] == "Pairing fails"
    assert titles["boiler-200-pressure-drops"] == "Pressure keeps dropping"


def test_every_product_has_articles_and_a_picture() -> None:
    about = {article.product_id for article in sample.articles()}
    for product in sample.PRODUCTS:
        assert product.id in about
        assert (IMAGES / product.picture).is_file()


def test_customers_own_products_that_are_sold_and_have_numbers_that_can_be_dialled() -> None:
    sold = {product.id for product in sample.PRODUCTS}
    for one in sample.CUSTOMERS:
        assert {product for product, _, _ in one.owns} <= sold
        assert one.customer.phone is not None
        assert re.fullmatch(r"\+[1-9][0-9]{6,14}", one.customer.phone)
