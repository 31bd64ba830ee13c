"""Scenes in which peers try to take the service away from others.

Mice (100 connections, 2,000 requests a second) are measured beside nobody and beside hostile peers,
in turn. Their p99 may be at most three times as long. In the small size, where the machine is busy
with others, it is their median, in the last of few blocks: the first that is good is the last, and
each is longer than the one before.
"""

from stage import (CI_P50_US, Mice, Peers, Result, alive, given_back, median, no_errors,
                   percentile_us, taken_by)

# Less is no flood, and no storm.
FLOOD_LEAST = 1e6
STORM_LEAST = 50


def measure_mice(stage, address, seconds):
    report = Mice(stage, address, seconds).report()
    return report, percentile_us(report, 99 if stage.size.strict else 50)


class Blocks:
    """Response times of the mice alone and beside the peers, a pair for each block."""

    def __init__(self, size):
        self.size = size
        self.idles, self.hostiles, self.unanswered = [], [], []

    def add(self, idle_us, report, hostile_us):
        self.idles.append(idle_us)
        self.hostiles.append(hostile_us)
        self.unanswered.append(report["requests"]["censored"])

    def limit_us(self):
        """Of the last block, for the median."""
        return max(3 * self.idles[-1], float(CI_P50_US))

    def last_is_good(self):
        in_time = self.size.sanitized or self.hostiles[-1] <= self.limit_us()
        return in_time and not self.unanswered[-1]

    def judge(self, result):
        ratios = [hostile / idle for idle, hostile in zip(self.idles, self.hostiles) if idle]
        percentile = "p99" if self.size.strict else "p50"
        result.figure(f"{percentile} idle, us", median(self.idles))
        result.figure(f"{percentile} beside them, us", median(self.hostiles))
        result.figure("ratios", [round(ratio, 2) for ratio in ratios])
        if self.size.strict:
            result.need("p99 over the idle server's", median(ratios), 3.0)
            return
        result.need_equal("requests without an answer for 5 s", self.unanswered[-1], 0)
        if not self.size.sanitized:
            result.need("p50, us", self.hostiles[-1], self.limit_us())


def beside(stage, result, server, role, check, **options):
    """Blocks of: the mice alone, then beside the peers.

    check(report) looks at what these say, and returns whether they were hostile enough.
    """
    size, address = stage.size, server.addresses[0]
    blocks = Blocks(size)
    for seconds in size.blocks:
        idle_us = 0.0
        if not size.sanitized:  # where no time is judged, nothing is compared
            alone, idle_us = measure_mice(stage, address, seconds)
            no_errors(result, alone)
        peers = Peers(stage, role, address, humble=True, **options)
        peers.until("ready")
        report, hostile_us = measure_mice(stage, address, seconds)
        hostile = check(peers.end())
        no_errors(result, report, "errors of the mice beside them")
        blocks.add(idle_us, report, hostile_us)
        good = not size.strict and hostile and blocks.last_is_good()
        if good or not result.met():
            break
    blocks.judge(result)
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
        result.need("their bytes", report["sent"], size.slow, least=True)
        if size.strict:
            result.figure("their late echoes", report["late"])
            result.figure("their bytes a second", report["sent"] / report["seconds"])
        return True

    beside(stage, result, server, "slow", check, connections=size.slow, interval_ms=size.slow_ms)
    return result


def flooder(stage):
    """One connection that sends and reads as fast as the machine can."""
    result = Result("one flooder", stage.engine)
    server = stage.server()
    moved, rates = [], []

    def check(report):
        result.need_equal("the flooder's altered bytes", report["wrong"], 0)
        result.need_equal("the flooder was cut off", report["lost"], 0)
        moved.append(report["received"])
        rates.append(report["received"] / report["seconds"] / 1e6)
        return moved[-1] >= FLOOD_LEAST

    beside(stage, result, server, "flood", check)
    result.figure("flooder, MB/s", median(rates))
    result.need("the flooder's bytes", moved[-1], FLOOD_LEAST, least=True)
    return result


def reset_storm(stage):
    """Peers that connect and reset, at every point of a conversation, as fast as they can."""
    size, result = stage.size, Result("connect-reset storm", stage.engine)
    server = stage.server()
    taken = taken_by(server)
    resets, rates = [], []

    def check(report):
        result.need_equal("altered bytes", report["wrong"], 0)
        resets.append(report["opened"])
        rates.append(report["opened"] / report["seconds"])
        return resets[-1] >= STORM_LEAST

    beside(stage, result, server, "reset", check, connections=size.storm)
    result.figure("resets a second", median(rates))
    result.need("resets", resets[-1], STORM_LEAST, least=True)
    given_back(result, server, taken, "before")
    return result


SCENES = (slow_clients, flooder, reset_storm)
