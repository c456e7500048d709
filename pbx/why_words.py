"""How a choice is put into words: what kept somebody from a contact, and what they were doing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from config.queue_settings import Strategy
from pbx.free_agents import most_needed
from pbx.pages.words import length
from pbx.past_floor import AgentPast
from pbx.queue import Group, Waiting
from pbx.router import FreeAgent

if TYPE_CHECKING:
    from pbx.why import Choice


class Names(dict[str, str]):
    """Names by agent; who has left is shown by their id."""

    def __missing__(self, agent_id: str) -> str:
        return agent_id


def group_words(group: Group) -> str:
    """`voice; boiler at 3 and billing; in German (de)`."""
    parts = [group.channel, _skills(group.required) or "no special skill"]
    if group.language is not None:
        parts.append(f"in {group.language}")
    return "; ".join(parts)


def relaxed_words(group: Group) -> str:
    return _skills(group.required) or "anybody"


def step_words(before: Group, after: Group) -> str:
    """What a step of relaxing does: `the next step drops billing`."""
    was, now = dict(before.required), dict(after.required)
    dropped = sorted(was.keys() - now.keys())
    lowered = sorted(skill for skill in now if now[skill] < was.get(skill, 0))
    does = []
    if dropped:
        does.append(f"drops {_and(dropped)}")
    if lowered:
        does.append("lowers " + _and([f"{skill} to {now[skill]}" for skill in lowered]))
    if before.language is not None and after.language is None:
        does.append(f"takes any language for {before.language}")
    return f"the next step {_and(does) or 'changes nothing'}"


def gap_words(lacking: Mapping[str, int]) -> str:
    """`boiler at 3 and billing`."""
    return _skills(lacking.items())


def obstacle(code: str, past: AgentPast, group: Group, names: Names) -> str:
    """A code of `router.may_serve` in words."""
    kind, _, facts = code.partition(":")
    match kind:
        case "wall":
            return f"does not serve {group.provider_id}"
        case "channel":
            if past.state == "Talking":
                return f"is with {past.contact_id or 'somebody'}, and takes no {group.channel} beside it"
            return f"has no phone here that carries {group.channel}"
        case "language":
            speaks = _and(sorted(past.free.languages)) if past.free is not None else ""
            return f"does not speak {group.language}" + (f" (but {speaks})" if speaks else "")
        case "skill":
            skill, _, levels = facts.rpartition(" ")
            has, _, least = levels.partition("<")
            if has == "0":
                return f"does not have {skill}" + (f" ({least} is needed)" if least != "1" else "")
            return f"has {skill} at {has}, {least} is needed"
        case "refused":
            if facts == "inf":
                return "did not take it, and is not asked for it again"
            return f"did not take it, and is not asked again for {float(facts):.0f} s"
        case "kept-for":
            return f"it was kept for {names[facts]}, who helped them last"
    return code


def state_words(past: AgentPast, now: float) -> tuple[str, str]:
    """(verdict, words) of an agent who is not on the floor."""
    for_ = f" for {length(now - past.since)}" if past.since is not None else ""
    # What only says the same again is left out.
    why = f" ({past.reason})" if past.reason and "phone" not in past.reason else ""
    match past.state:
        case "Offline":
            return "offline", f"no phone of theirs is registered{for_}"
        case "NotReady":
            return "not-ready", f"not ready{for_}{why}"
        case "Talking":
            return "busy", f"with {past.contact_id or 'somebody'}{for_}"
        case "Reserved":
            return "reserved", f"being asked for {past.contact_id or 'another contact'}"
        case "WrapUp":
            return "wrap-up", f"writing up {past.contact_id or 'a contact'}{for_}"
    return "off-floor", "ready, but just chosen for another, in a call of their own, or with no phone for it"


def compared(
    agent: FreeAgent,
    first: FreeAgent,
    waiting: Waiting,
    group: Group,
    strategy: Strategy,
    now: float,
    names: Names,
) -> str:
    """Why `first` came before this agent, who may serve it as well."""
    name = names[first.agent_id]
    if agent.agent_id == waiting.last_refused != first.agent_id:
        return "was the last who did not take it: asked again when nobody else is free"
    if agent.standby > first.standby:
        return "on standby: asked when nobody else is free"
    if agent.agent_id in waiting.refusals and first.agent_id not in waiting.refusals:
        return f"did not take it before, as {name} had not"
    if first.agent_id == waiting.preferred:
        return f"could have served it, but {name} helped them last"
    match strategy:
        case Strategy.ROUND_ROBIN if agent.offered_at != first.offered_at:
            return f"was asked {_ago(now, agent.offered_at)}; {name} {_ago(now, first.offered_at)}"
        case Strategy.FEWEST_CONTACTS if agent.taken != first.taken:
            return f"has taken {agent.taken} since they came; {name} {first.taken}"
        case Strategy.BEST_SKILL:
            for skill, _ in most_needed(group):
                if agent.levels.get(skill, 0) != first.levels.get(skill, 0):
                    return (
                        f"has {skill} at {agent.levels.get(skill, 0)}; {name} at {first.levels.get(skill, 0)}"
                    )
        case Strategy.SPARE_SKILLED if sum(agent.levels.values()) != sum(first.levels.values()):
            return f"knows more besides than {name}, and is kept free for that"
        case _:
            pass
    return f"idle for {length(now - agent.idle_since)}; {name} for {length(now - first.idle_since)}"


def choice_lines(choice: Choice, clock: str) -> Iterable[str]:
    """A choice as `warmline why` prints it. `clock` is its time of day."""
    names = Names({each.agent_id: each.name for each in choice.candidates})
    if choice.chosen is not None:
        yield f"{clock}  after {length(choice.waited_s)}: {names[choice.chosen]} was asked; {became(choice.outcome)}"
    else:
        ahead = f", {choice.ahead} before it in the queue" if choice.ahead else ""
        yield f"{clock}  waiting for {length(choice.waited_s)}{ahead}"
    if choice.needs:
        step = f", relaxed by {choice.step} step{'s' if choice.step > 1 else ''}" if choice.step else ""
        yield f"  needs      {choice.needs}  (queue {choice.queue}, {choice.strategy}{step})"
    shown = 0
    rest: dict[str, int] = {}
    for each in choice.candidates:
        if shown < _MOST_SHOWN:
            shown += 1
            yield f"  {each.name:24} {each.words}"
        else:
            rest[each.verdict] = rest.get(each.verdict, 0) + 1
    if rest:
        yield "  and " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(rest.items()))
    for each_would in choice.would:
        yield f"  -> {each_would}"
    if choice.agrees is False:
        found = names[choice.expected] if choice.expected is not None else "nobody for it"
        yield f"  !! The rule itself finds {found} on the floor as the event log tells it."


_MOST_SHOWN = 20

_BECAME = {
    "accepted": "took it",
    "declined": "declined",
    "no_answer": "did not answer",
    "busy": "was busy",
    "unreachable": "could not be reached",
    "asleep": "had a phone that did not wake",
    "ended": "it ended before they answered",
    "withdrawn": "it was withdrawn",
    "being asked": "rings",
}


def became(outcome: str) -> str:
    """What whoever was asked did."""
    return _BECAME.get(outcome, outcome)


def _ago(now: float, at: float) -> str:
    return f"{length(now - at)} ago" if at else "never yet"


def _skills(required: Iterable[tuple[str, int]]) -> str:
    return _and([f"{skill} at {level}" if level > 1 else skill for skill, level in sorted(required)])


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
