from __future__ import annotations

import re

from config.ids import new_id


def test_ids_sort_in_the_order_they_were_made_and_never_repeat() -> None:
    made = [new_id("c") for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_is_safe_in_a_uri_a_url_and_a_file_name() -> None:
    assert re.fullmatch(r"visit_[a-z0-9]{21}", new_id("visit"))
