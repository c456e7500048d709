"""What may be said of queues, and what is refused at start."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from config.queue_settings import Consequence, Overflow, QueueSettings, Step, Strategy, queues


def test_a_queue_is_read_whole() -> None:
    (read,) = queues(
        [
            {
                "name": "boilers",
                "provider": "thermea",
                "channel": "voice",
                "strategy": "best-skill",
                "priority_s": 60,
                "prefer_last_s": 20,
                "relax": [{"after_s": 60, "lower": 1}, {"after_s": 120, "drop": 2, "any_language": True}],
                "max_wait_s": 300,
                "overflow": "voicemail",
                "call_back": False,
                "declined": {"pause_s": "never"},
                "no_answer": {"pause_s": 5, "not_ready_after": 3},
            }
        ]
    )
    assert read == QueueSettings(
        "boilers",
        provider="thermea",
        channel="voice",
        strategy=Strategy.BEST_SKILL,
        priority_s=60.0,
        prefer_last_s=20.0,
        relax=(Step(60.0, lower=1), Step(120.0, drop=2, any_language=True)),
        max_wait_s=300.0,
        overflow=Overflow.VOICEMAIL,
        call_back=False,
        declined=Consequence(math.inf, 0),
        no_answer=Consequence(5.0, 3),
    )


def test_a_variable_says_it_in_json() -> None:
    assert queues(json.dumps([{"name": "a", "channel": "chat"}])) == (QueueSettings("a", channel="chat"),)
    assert queues("") == ()


A: dict[str, Any] = {"name": "a", "provider": "p"}


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("{", "is not JSON"),
        ({}, "list"),
        ([{"name": ""}], "no name"),
        ([A, A], "two queues"),
        ([{**A, "colour": "red"}], "unknown keys colour"),
        ([{**A, "channel": "fax"}], "channel should be one of chat, voice, video"),
        ([{**A, "strategy": "random"}], "strategy"),
        ([{**A, "max_wait_s": -1}], "number of seconds"),
        ([{**A, "call_back": "yes"}], "true or false"),
        ([{**A, "relax": [{"after_s": 60}, {"after_s": 30}]}], "one after another"),
        ([{**A, "relax": [{"after_s": 60, "lower": 9}]}], "from 0 to 5"),
        ([{**A, "busy": {"not_ready_after": -1}}], "from 0 to 100"),
        ([{**A, "overflow": "queue"}], "no other queue"),
        ([{**A, "overflow": "queue", "overflow_queue": "a"}], "no other queue"),
        ([{"name": "empty"}], "would stay empty"),
        ([{"name": "default", "channel": "chat"}], "names nothing"),
    ],
)
def test_what_is_wrong_is_said(raw: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        queues(raw)


def test_what_was_set_is_shown_as_it_would_be_set() -> None:
    given = {
        **A,
        "relax": [{"after_s": 60.0, "lower": 1, "drop": 0, "any_language": False}],
        "declined": {"pause_s": "never", "not_ready_after": 2},
    }
    (queue,) = queues([given])
    assert queue.shown() == given
    assert queues([queue.shown()]) == (queue,)


def test_a_queue_that_names_nothing_is_there_for_what_overflows_into_it() -> None:
    read = queues([{**A, "overflow": "queue", "overflow_queue": "patience"}, {"name": "patience"}])
    assert [queue.name for queue in read] == ["a", "patience"]


def test_queues_do_not_overflow_in_a_circle() -> None:
    with pytest.raises(ValueError, match="a -> b -> a"):
        queues(
            [
                {**A, "overflow": "queue", "overflow_queue": "b"},
                {"name": "b", "overflow": "queue", "overflow_queue": "a"},
            ]
        )
