from __future__ import annotations

import re

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.test.requesthelper import DummyRequest

from pbx.api.metrics import MetricsPage
from pbx.operations.metrics import Metric, Metrics, SipCounts, by_label, process_metrics, text
from sip_trunk.flow import Flow

UDP = Flow("UDP", ("192.0.2.7", 5060), "a")
# A sample line as Prometheus' text format has it.
SAMPLE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z_]+="(\\.|[^"\\\n])*",?)*\})? -?[0-9.e+-]+')


def test_messages_are_counted_by_way_transport_and_kind() -> None:
    counts = SipCounts()
    for _ in range(3):
        counts.wire(False, UDP, b"REGISTER sip:h SIP/2.0\r\n\r\n")
    counts.wire(True, UDP, b"SIP/2.0 401 Unauthorized\r\n\r\n")
    page = text(counts.metrics())
    assert 'warmline_sip_requests_total{direction="in",transport="UDP",method="REGISTER"} 3\n' in page
    assert 'warmline_sip_responses_total{direction="out",transport="UDP",status="4xx"} 1\n' in page


def test_what_strangers_make_up_is_one_kind() -> None:
    counts = SipCounts()
    for number in range(1000):
        counts.wire(False, UDP, b"MADEUP%d sip:h SIP/2.0\r\n\r\n" % number)
    for junk in (
        b"",
        b" ",
        b"\x00" * 50,
        b"SIP/2.0",
        b"SIP/2.0 ",
        b"SIP/2.0 9xx",
        b"INVITE",
        b"invite sip:h SIP/2.0",
    ):
        counts.wire(False, UDP, junk)
    assert set(counts.messages) == {(False, "UDP", b"other")}


def test_the_page_is_in_prometheus_own_format() -> None:
    page = text(
        [
            Metric("one_total", "counter", 'A "help" with \\ and\na line')
            .add(1, reason='a"b\\c\nd')
            .add(2.5),
            by_label("two", "gauge", "Two.", "state", {"a": 1}, ("a", "b")),
            *process_metrics(1000.0),
        ]
    )
    for line in page.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or SAMPLE.fullmatch(line), line
    assert page.endswith("\n")
    assert 'one_total{reason="a\\"b\\\\c\\nd"} 1\n' in page
    assert 'two{state="b"} 0\n' in page
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        found = re.search(rf"^{name} ([0-9.]+)$", page, re.MULTILINE)
        assert found is not None
        assert float(found[1]) > 0


def test_a_source_that_fails_is_left_out_and_counted() -> None:
    logged: list[None] = []

    def fails() -> list[Metric]:
        raise RuntimeError

    metrics = Metrics([fails, lambda: [Metric("good", "gauge", "Good.").add(1)]], lambda: logged.append(None))
    page = metrics.page()
    assert "\ngood 1\n" in page
    assert "\nwarmline_metrics_failures_total 1\n" in page
    assert len(logged) == 1


def asked(page: MetricsPage, host: str, **headers: str) -> tuple[int, bytes]:
    address = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 1)
    request = DummyRequest([b""])
    request.getClientAddress = lambda: address  # type: ignore[method-assign]
    for name, value in headers.items():
        request.requestHeaders.addRawHeader(name.replace("_", "-"), value)
    body = page.render_GET(request)  # type: ignore[arg-type]
    status: int | None = request.responseCode
    return status or 200, body


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_this_machine_is_answered(host: str) -> None:
    assert asked(MetricsPage(lambda: "x 1\n", ""), host) == (200, b"x 1\n")


def test_nobody_else_is_and_no_proxy_on_this_machine() -> None:
    page = MetricsPage(lambda: "x 1\n", "")
    assert asked(page, "192.0.2.7")[0] == 403
    assert asked(page, "127.0.0.1", x_forwarded_for="192.0.2.7")[0] == 403
    assert asked(page, "192.0.2.7", authorization="Bearer ")[0] == 403


def test_with_a_token_whoever_brings_it_is() -> None:
    page = MetricsPage(lambda: "x 1\n", "t0ken")
    assert asked(page, "192.0.2.7", authorization="Bearer t0ken") == (200, b"x 1\n")
    assert asked(page, "127.0.0.1")[0] == 403
    assert asked(page, "192.0.2.7", authorization="Bearer t0ken2")[0] == 403
