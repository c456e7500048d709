"""Sample data of the contact centre itself: rules that lead from what people search to the skills they need."""

from __future__ import annotations

from collections.abc import Mapping

from pbx.skills import Rule
from pbx.store import PbxStore, RuleVersion


def _searches(**words: str) -> tuple[Rule, ...]:
    """`wifi_pairing="wifi pairing"`: each of these words, searched for, asks for the skill of that name."""
    return tuple(
        Rule("search", word, skill.replace("_", "-"))
        for skill, text in words.items()
        for word in text.split()
    )


RULES: Mapping[str, tuple[Rule, ...]] = {
    "thermea": (
        *_searches(
            boiler_hydraulics="pressure leak radiator filling noise pump",
            wifi_pairing="wifi wlan pairing receiver app",
            billing="invoice bill payment price contract",
            smart_home="schedule routine automation",
        ),
        # Low pressure, and no flame: not for whoever has only just begun.
        Rule("error", "E119", "boiler-hydraulics", level=3),
        Rule("error", "E133", "heating", level=3),
    ),
    "lumio": (
        *_searches(
            wifi_pairing="wifi wlan pairing router offline connect",
            video_diagnosis="picture video dark blurry stutters night",
            billing="plan subscription cancel invoice payment",
            smart_home="routine automation lights hub",
        ),
        Rule("error", "W-20", "wifi-pairing", level=2),
    ),
}


async def seed(store: PbxStore) -> None:
    """Give each sample provider its rules, unless it has some. May be run again."""
    present = await store.rule_versions()
    for provider_id, rules in RULES.items():
        if provider_id not in present:
            await store.add_rules(RuleVersion(provider_id, 1, author="the sample", note="", rules=rules))
