"""What Prometheus reads (its text format, version 0.0.4): read off the parts when asked, and counted nowhere but where
a message passes anyway.
"""

from __future__ import annotations

import os
import resource
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from sip_trunk.flow import Flow

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METHODS = frozenset(
    {
        b"INVITE", b"ACK", b"BYE", b"CANCEL", b"REGISTER", b"OPTIONS", b"PRACK", b"SUBSCRIBE", b"NOTIFY", b"PUBLISH",
        b"INFO", b"REFER", b"MESSAGE", b"UPDATE",
    }
)  # fmt: skip
_CLASSES = {b"SIP/2.0 %d" % number: f"{number}xx" for number in range(1, 7)}

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Metric:
    """One family. `kind` is "counter", "gauge" or "histogram"; a value's labels are (name, value) pairs, and `suffixes`
    are what a histogram's values have behind the family's name."""

    name: str
    kind: str
    help: str
    values: list[tuple[Labels, float]] = field(default_factory=list)
    suffixes: list[str] = field(default_factory=list)

    def add(self, value: float, suffix: str = "", /, **labels: str) -> Metric:
        self.values.append((tuple(labels.items()), value))
        self.suffixes.append(suffix)
        return self


def text(metrics: Iterable[Metric]) -> str:
    """The page."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {_escaped(metric.help)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        for (labels, value), suffix in zip(metric.values, metric.suffixes, strict=True):
            name = metric.name + suffix
            inner = ",".join(f'{label}="{_escaped(said, quoted=True)}"' for label, said in labels)
            shown = int(value) if float(value).is_integer() else repr(float(value))
            lines.append(f"{name}{{{inner}}} {shown}" if inner else f"{name} {shown}")
    return "\n".join(lines) + "\n"


def _escaped(said: str, *, quoted: bool = False) -> str:
    said = said.replace("\\", "\\\\").replace("\n", "\\n")
    said = said.replace('"', '\\"') if quoted else said
    return said.encode("utf-8", "replace").decode()


class SipCounts:
    """`wire` goes into `Transports.wires`. Methods nobody knows are one: a stranger may make up any number of them."""

    def __init__(self) -> None:
        self.messages: dict[tuple[bool, str, bytes], int] = {}
        self.unreadable: Counter[str] = Counter()

    def wire(self, sent: bool, flow: Flow, data: bytes) -> None:
        """A message goes by."""
        what = data[: data.find(b" ", 0, 20)]
        if what == b"SIP/2.0":
            what = data[:9]
            if what not in _CLASSES:
                what = b"other"
        elif what not in _METHODS:
            what = b"other"
        key = (sent, flow.transport, what)
        messages = self.messages
        messages[key] = messages.get(key, 0) + 1

    def metrics(self) -> list[Metric]:
        requests = Metric(
            "warmline_sip_requests_total", "counter", "SIP requests, by way, transport and method."
        )
        responses = Metric(
            "warmline_sip_responses_total", "counter", "SIP responses, by way, transport and class of status."
        )
        for (sent, transport, what), count in sorted(self.messages.items()):
            way = "out" if sent else "in"
            if what in _CLASSES:
                responses.add(count, direction=way, transport=transport, status=_CLASSES[what])
            else:
                requests.add(count, direction=way, transport=transport, method=what.decode("ascii"))
        unreadable = Metric("warmline_sip_unreadable_total", "counter", "Messages that could not be parsed.")
        for transport, count in sorted(self.unreadable.items()):
            unreadable.add(count, transport=transport)
        return [requests, responses, unreadable]


def process_metrics(started_at: float) -> list[Metric]:
    """The names every Prometheus client library gives these. started_at: epoch seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", "rb") as statm:
        pages = int(statm.read().split()[1])
    return [
        Metric(
            "process_cpu_seconds_total", "counter", "CPU seconds of the server, media's process not counted."
        ).add(round(used.ru_utime + used.ru_stime, 3)),
        Metric("process_resident_memory_bytes", "gauge", "Resident memory of the server.").add(
            pages * resource.getpagesize()
        ),
        Metric("process_open_fds", "gauge", "Open file descriptors.").add(len(os.listdir("/proc/self/fd"))),
        Metric("process_max_fds", "gauge", "How many there may be.").add(
            resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        ),
        Metric("process_start_time_seconds", "gauge", "When the server started, in epoch seconds.").add(
            round(started_at, 3)
        ),
    ]


def gauge(name: str, meaning: str, value: float) -> Metric:
    return Metric(name, "gauge", meaning).add(value)


def by_label(
    name: str, kind: str, meaning: str, label: str, values: Mapping[str, float], always: Iterable[str] = ()
) -> Metric:
    """One value a label; those of `always` are told at 0 too, so that a rule over them finds them."""
    metric = Metric(name, kind, meaning)
    for each in sorted({*values, *always}):
        metric.add(values.get(each, 0), **{label: each})
    return metric


class Histogram:
    """How often something measured was at most each of `bounds`, which rise."""

    def __init__(self, name: str, meaning: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._meaning = meaning
        self._bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, **labels: str) -> None:
        key = tuple(labels.items())
        counts = self._counts.setdefault(key, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[key] = self._sums.get(key, 0.0) + value

    def metric(self) -> Metric:
        metric = Metric(self._name, "histogram", self._meaning)
        for key, counts in sorted(self._counts.items()):
            labels = dict(key)
            for bound, count in zip((*self._bounds, "+Inf"), accumulate(counts), strict=True):
                metric.add(count, "_bucket", **labels, le=str(bound))
            metric.add(round(self._sums[key], 3), "_sum", **labels)
            metric.add(sum(counts), "_count", **labels)
        return metric


class Metrics:
    """`sources` are asked at each scrape; one that fails is left out, and counted."""

    def __init__(
        self, sources: Iterable[Callable[[], Iterable[Metric]]], log_failure: Callable[[], None]
    ) -> None:
        self._sources = list(sources)
        self._log_failure = log_failure
        self._failures = 0

    def also(self, source: Callable[[], Iterable[Metric]]) -> None:
        self._sources.append(source)

    def page(self) -> str:
        began = time.perf_counter()
        found: list[Metric] = []
        for source in self._sources:
            try:
                found += source()
            except Exception:
                self._failures += 1
                self._log_failure()
        found.append(
            Metric("warmline_metrics_failures_total", "counter", "Sources of metrics that failed.").add(
                self._failures
            )
        )
        found.append(
            gauge(
                "warmline_metrics_seconds", "How long this page took.", round(time.perf_counter() - began, 6)
            )
        )
        return text(found)
