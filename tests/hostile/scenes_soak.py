"""The soak: four fifths of what the server can do, with connections that come and go.

In the small size the rate is given, and high for a moment. What is due is sent and waited for even
after it: a slice has as many requests on a slow machine, and the memory that each costs shows.
"""

import machine
from stage import (MIB, POOL, THREAD, Mice, Result, alive, median, no_errors, percentile_us,
                   settled, taken_by)

CHURN_RATE, CHURN_ECHOES, CHURN_CONNECTIONS = 200, 10, 20
MORE_THAN_CAN_BE = 10 ** 6  # operations a second


def capacity(stage, address):
    """What is answered of an open loop that asks for more than can be, a second.

    The least of several tries: machines change their speed, and a load above what they can do at
    their slowest measures how a queue grows.
    """
    return min(Mice(stage, address, 3, rate=MORE_THAN_CAN_BE).report()["ops_per_s"]
               for _ in range(5))


def steady_rate(stage, address):
    """Of the mice beside those that come and go."""
    if stage.size.soak_rate:
        return stage.size.soak_rate
    return max(0.8 * capacity(stage, address) - CHURN_ECHOES * CHURN_RATE, 100)


def soak(stage):
    """Memory, descriptors and p99 at the end are what they were at the beginning."""
    size, result = stage.size, Result("soak", stage.engine)
    server = stage.server()
    pid, address = server.process.pid, server.addresses[0]
    idle = taken_by(server)
    rate = steady_rate(stage, address)
    rows = []
    for _ in range(round(size.soak_s / size.slice_s)):
        churn = Mice(stage, address, size.slice_s, "--churn", str(CHURN_ECHOES),
                     connections=CHURN_CONNECTIONS, rate=CHURN_RATE)
        main = Mice(stage, address, size.slice_s, rate=rate)
        mine, come_and_go = main.report(), churn.report()
        no_errors(result, mine)
        no_errors(result, come_and_go, "errors of those that come and go")
        ordinary, direct = settled(server, idle)
        rows.append({"resident": machine.resident(pid), "descriptors": ordinary, "direct": direct,
                     "p99_us": percentile_us(mine, 99), "ops": mine["ops"],
                     "connections": come_and_go["ops"]})
    judge(result, size, rows, growth_limit(stage))
    alive(result, server)
    return result


def growth_limit(stage):
    """In moments the pools of buffers are still filling, up to their bound."""
    if stage.size.strict:
        return MIB
    threads = stage.size.mice + CHURN_CONNECTIONS
    return MIB + (threads * THREAD if stage.blocking() else POOL)


def judge(result, size, rows, growth_max):
    third = max(len(rows) // 3, 1)
    first, last = rows[:third], rows[-third:]
    grown = max(row["resident"] for row in last) - max(row["resident"] for row in first)
    p99s = [median(row["p99_us"] for row in part) for part in (first, last)]
    result.figure("seconds", size.soak_s)
    operations = sum(row["ops"] for row in rows)
    result.figure("operations", operations)
    result.figure("operations a second", operations / (len(rows) * size.slice_s))
    result.figure("connections that came and went", sum(row["connections"] for row in rows))
    result.figure("resident, MiB", rows[-1]["resident"] / MIB)
    result.figure("growth from the first third to the last, KiB", grown / 1024)
    result.figure("p99 of the first and the last third, us", p99s)
    result.figure("slices", rows)
    result.need("descriptors more than at first",
                max(row["descriptors"] for row in last) - first[0]["descriptors"], 0)
    result.need("direct descriptors more than at first",
                max(row["direct"] for row in last) - first[0]["direct"], 0)
    if not size.sanitized:
        result.need("growth, bytes", grown, growth_max)
    if size.strict:
        result.need("p99 of the last third over the first", p99s[1] / p99s[0], 1.5)


SCENES = (soak,)
