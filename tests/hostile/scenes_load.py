"""Scenes in which peers try to take the service away from others.

Mice (100 connections, 2,000 requests a second) are measured beside nobody and beside hostile peers,
in turn. Their p99 may be at most three times as long; in the small size it is the median's turn.
"""

from stage import (CI_P50_US, Mice, Peers, Result, alive, given_back, median, no_errors,
                   percentile_us, taken_by)


def measure_mice(stage, address):
    # A mouse that waits this long is lost, and an error.
    options = () if stage.size.strict else ("--timeout", "8")
    report = Mice(stage, address, stage.size.block_s, *options).report()
    return report, percentile_us(report, 99 if stage.size.strict else 50)


def beside(stage, result, server, role, check, **options):
    """Blocks of: the mice alone, then beside the peers. check(report) looks at what these say."""
    address = server.addresses[0]
    idles, hostiles, ratios = [], [], []
    for _ in range(stage.size.blocks):
        alone, idle_us = measure_mice(stage, address)
        peers = Peers(stage, role, address, **options)
        peers.until("ready")
        report, hostile_us = measure_mice(stage, address)
        check(peers.end())
        no_errors(result, alone)
        no_errors(result, report, "errors of the mice beside them")
        idles.append(idle_us)
        hostiles.append(hostile_us)
        ratios.append(hostile_us / idle_us)
        if not stage.size.strict and hostile_us <= max(3 * idle_us, CI_P50_US):
            break
    percentile = "p99" if stage.size.strict else "p50"
    result.figure(f"{percentile} idle, us", median(idles))
    result.figure(f"{percentile} beside them, us", median(hostiles))
    result.figure("ratios", [round(ratio, 2) for ratio in ratios])
    if stage.size.strict:
        result.need("p99 over the idle server's", median(ratios), 3.0)
    elif not stage.size.sanitized:
        result.need("p50, us", hostiles[-1], max(3 * idles[-1], float(CI_P50_US)))
    alive(result, server)


def slow_clients(stage):
    """Thousands of clients that send a byte, wait, and send the next. None is forgotten."""
    size, result = stage.size, Result("slow clients", stage.engine)
    server = stage.server("--backlog", "4096")

    def check(report):
        result.need_equal("slow clients connected", report["opened"], size.slow)
        result.need_equal("slow clients lost", report["lost"] + report["refused"], 0)
        result.need_equal("slow clients that got all of it", report["finished"], size.slow)
        result.need_equal("their altered bytes", report["wrong"], 0)
        result.need("their bytes", report["sent"], size.slow // 2, least=True)
        if size.strict:
            result.figure("their late echoes", report["late"])
            result.figure("their bytes a second", report["sent"] / report["seconds"])

    beside(stage, result, server, "slow", check, connections=size.slow, interval_ms=size.slow_ms)
    return result


def flooder(stage):
    """One connection that sends and reads as fast as the machine can."""
    result = Result("one flooder", stage.engine)
    server = stage.server()
    rates = []

    def check(report):
        result.need_equal("the flooder's altered bytes", report["wrong"], 0)
        result.need_equal("the flooder was cut off", report["lost"], 0)
        rates.append(report["received"] / report["seconds"] / 1e6)

    beside(stage, result, server, "flood", check)
    result.figure("flooder, MB/s", median(rates))
    result.need("flooder, MB/s", median(rates), 1.0, least=True)
    return result


def reset_storm(stage):
    """Peers that connect and reset, at every point of a conversation, as fast as they can."""
    size, result = stage.size, Result("connect-reset storm", stage.engine)
    server = stage.server()
    taken = taken_by(server)
    rates = []

    def check(report):
        result.need_equal("altered bytes", report["wrong"], 0)
        rates.append(report["opened"] / report["seconds"])

    beside(stage, result, server, "reset", check, connections=size.storm)
    result.figure("resets a second", median(rates))
    result.need("resets a second", median(rates), 50.0, least=True)
    given_back(result, server, taken, "before")
    return result


SCENES = (slow_clients, flooder, reset_storm)
