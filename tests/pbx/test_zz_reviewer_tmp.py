from __future__ import annotations
import asyncio, random, os
import pytest
from config.errors import TheirError, WarmlineError
from pbx.contact import State, Channel
from tests.pbx.centre import Caller, Centre
from tests.pbx.test_call_back import wire, MARIAS
SEEDS = range(int(os.environ.get("FROM","0")), int(os.environ.get("TO","10")))

@pytest.mark.parametrize("seed", SEEDS)
async def test_fuzz(seed: int) -> None:
    rnd = random.Random(seed)
    centre = await Centre.open(); wire(centre)
    centre.calling_back.has_page = lambda c: rnd.random() < 0.8
    await centre.agent("ana"); 
    await centre.agent("bo")
    for each in ("ana","bo"): await centre.house.bind(each, contact_uri=f"sip:{each}@192.0.2.7:5062", expires_s=99999.0)
    customers: dict[str, list[Caller]] = {}
    log: list[str] = []
    def mine(name):
        return centre.desk.current(name)
    async def act(name: str) -> None:
        c = mine(name)
        what = rnd.choice(["chan","chan","back","backp","cancel","refuse","call","call","call","hang","end","say","lost"])
        try:
            if c is None:
                c = await centre.desk.request(name, rnd.choice(["chat","voice","voice"]), "boiler", None, None, None)
                log.append(f"{name} asks {c.channel}")
                return
            log.append(f"{name} {what} {c.state} {c.channel} cb={c.call_back is not None}")
            if what == "chan": await centre.desk.change_channel(c.id, rnd.choice(["chat","voice","video"]))
            elif what == "back": await centre.desk.ask_call_back(c.id, "app")
            elif what == "backp": await centre.desk.ask_call_back(c.id, "phone")
            elif what == "cancel": await centre.desk.cancel_call_back(c.id)
            elif what == "refuse": centre.desk.refuse_call_back(c.id)
            elif what == "call" and c.channel is not Channel.CHAT:
                caller = Caller(centre.desk.uri(c))
                customers.setdefault(c.id, []).append(caller)
                g = await centre.calls.greet(c.id, c.channel, caller)
                await asyncio.sleep(0)
                await centre.calls.arrive(c, g)
            elif what == "hang":
                for each in customers.get(c.id, []):
                    if each.over is None: each.hang_up(); break
            elif what == "lost":
                b = centre.calls.branch_of(c.id)
                if b: centre.media.on_gone(c.id, b, "silent")
            elif what == "end" and rnd.random() < 0.4: await centre.desk.end(c.id, "customer")
            elif what == "say" and c.channel is Channel.CHAT: await centre.desk.say(c.id, f"k{rnd.random()}", "hello")
        except WarmlineError as e:
            log.append(f"   {e.reason}")
    async def agents() -> None:
        for phone in list(centre.phone.rung):
            if phone.over is None and rnd.random() < 0.5:
                if not phone.answered:
                    r = rnd.random()
                    log.append(f"phone {phone.to} {r:.2f}")
                    if r < 0.7: phone.ring(); phone.pick_up()
                    elif r < 0.9: phone.ring(); phone.refuse(603)
                    else: phone.refuse(486)
                elif rnd.random() < 0.2:
                    log.append(f"phone {phone.to} hangs up"); phone.hang_up()
    async def desk() -> None:
        for a in ("agent-ana","agent-bo"):
            other = "agent-bo" if a == "agent-ana" else "agent-ana"
            for c in centre.contacts.of_agent(a):
                what = rnd.choice(["hold","unhold","transfer","skill","consult","complete","confer","call_off","number",None,None])
                if what is None: continue
                log.append(f"{a} {what} {c.id[-3:]} {c.state} {c.channel}")
                try:
                    if what == "skill": await centre.actions.transfer(a, c.id, "skill:heating")
                    elif what == "number": await centre.actions.transfer(a, c.id, "number:+49301234")
                    elif what in ("transfer","consult"): await getattr(centre.actions, what)(a, c.id, f"agent:{other}")
                    else: await getattr(centre.actions, what)(a, c.id)
                except WarmlineError as e:
                    log.append(f"   {e.reason}")
    trunk_callers = []
    async def caller_acts() -> None:
        if len(trunk_callers) < 5 and rnd.random() < 0.5:
            from tests.pbx.centre import FakeFlow, DOMAIN
            flow = FakeFlow("UDP", ("192.0.2.50", 5070), "udp")
            x = Caller(f"sip:+15550200@{DOMAIN}", from_=f"sip:+1555765432{rnd.randrange(3)}@carrier.example", flow=flow, body=b"offer")
            trunk_callers.append(x)
            centre.inbound().on_invite(x); log.append("trunk call"); return
        for c in list(centre.contacts):
            if c.facts.trunk:
                what = rnd.choice(["1","2","hang","take","ask","#"])
                log.append(f"trunk {what} {c.state} cb={c.call_back is not None}")
                b = centre.calls.branch_of(c.id)
                if what in "12#" and b:
                    centre.calls.room._patter[c.id].offered = True if c.id in centre.calls.room._patter else False
                    centre.media.on_keys(c.id, b, what)
                    if what == "#": centre.media.ends_recording(c.id, b, "key")
                elif what == "hang":
                    for x in trunk_callers:
                        if x.over is None: x.hang_up(); break
                elif what == "take": centre.voicemails.take(c)
                elif what == "ask":
                    try: await centre.call_backs.ask(c, c.facts.number)
                    except TheirError as e: log.append("   "+e.reason)
                    except WarmlineError as e: log.append("   "+e.reason)
    if seed % 2:
        from config.errors import OurError
        good = centre.store.moved
        def moved(contact, *, patient=False):
            if rnd.random() < 0.06 and not done:
                lost = asyncio.get_running_loop().create_future(); lost.set_exception(OurError("disk")); log.append("  DISK"); return lost
            return good(contact, patient=patient)
        centre.store.moved = moved
    done: list[int] = []
    from config.queue_settings import QueueSettings, Overflow
    centre.queues["default"] = QueueSettings("default", overflow=Overflow.VOICEMAIL)
    names = ["maria","jonas","aiko"]
    try:
        for step in range(60):
            jobs = [act(rnd.choice(names)) for _ in range(rnd.choice([1,1,2,3]))]
            if rnd.random() < 0.6: jobs.append(agents())
            if rnd.random() < 0.4: jobs.append(desk())
            if rnd.random() < 0.5: jobs.append(caller_acts())
            await asyncio.gather(*jobs)
            for _ in range(rnd.choice([0,2,6])): await asyncio.sleep(0)
            if rnd.random() < 0.3: centre.clock.advance(rnd.choice([0.1,1,6,31]))
            if rnd.random() < 0.5: await centre.settle()
            if rnd.random() < 0.02:
                log.append("MEDIA DIED"); centre.calls.media_died(); centre.calling_back.media_died()
            if rnd.random() < 0.05 and centre.phone.rung:
                x = rnd.choice(centre.phone.rung); b = [k for k in centre.media.branches if k[1].startswith("agent")]
                if b: k = rnd.choice(b); log.append(f"gone {k}"); centre.media.on_gone(k[0], k[1], "silent")
            if rnd.random() < 0.05:
                x = rnd.choice(["ana","bo"]); log.append(f"{x} unregisters"); centre.house.drop(x); await centre.settle(); centre.clock.advance(rnd.choice([1,5])); await centre.house.bind(x, contact_uri=f"sip:{x}@192.0.2.7:5062", expires_s=99999.0)
            if rnd.random() < 0.3:
                for a in ("ana","bo"):
                    try: await centre.house.states.ready(f"agent-{a}")
                    except TheirError: pass
            for c in centre.contacts: assert c.open
        done.append(1)
        await centre.settle()
        # everybody alone: time passes, phones are answered by nobody
        for phone in centre.phone.rung:
            if phone.over is None and not phone.answered: phone.refuse(603)
        await centre.passes(700)
        for c in list(centre.contacts):
            owned = (
                c.state is State.CONNECTED or c.id in centre.dispatch._offers
                or (c.routable and c.id in centre.dispatch.floor)
                or c.id in centre.calls._absences._timers or c.id in centre.call_backs._timers
                or c.id in centre.transfers._under_way or c.id in centre.voicemails._leaving
            )
            assert owned, ("ownerless", c)
            if c.channel is Channel.CHAT: assert centre.chats.lines(c.id) is not None
            if c.channel is Channel.CHAT: assert centre.calls.branch_of(c.id) is None, "a chat with a call"
        for c in list(centre.contacts):
            await centre.desk.end(c.id, "customer")
        for c in list(centre.contacts): await centre.desk.end(c.id, "customer")
        for phone in centre.phone.rung:
            if phone.over is None: phone.hang_up()
        await centre.settle(); await centre.passes(90)
        for x in trunk_callers:
            if x.over is None: x.hang_up()
        await centre.settle(); await centre.passes(20)
        assert len(centre.contacts) == 0
        assert centre.calls._lines == {}
        assert centre.call_backs._timers == {} and centre.call_backs._owed == {} and centre.call_backs._asking == set()
        assert centre.calling_back._attempts == {}
        assert centre.transfers.claims._claimed == set(), centre.transfers.claims._claimed
        assert centre.consultations._open == {}; assert centre.voicemails._leaving == {}; assert centre.menu._wanted == {} and centre.menu._asking == set()
        assert centre.dispatch._held == {} and centre.dispatch._offers == {} and centre.dispatch._asked == {}
        for a in ("ana","bo"): assert centre.state(a) in ("Ready","NotReady"), centre.state(a)
        assert centre.media.branches == {}, centre.media.branches
        assert centre.house.kinds("agent.stuck") == [], centre.house.kinds("agent.stuck")
        stuck=[e for e in centre.house.told if "stuck" in e.kind]; assert not stuck, stuck
    except BaseException:
        print("\n".join(log[-60:])); raise
