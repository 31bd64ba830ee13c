"""The soak: four fifths of what the server can do, with connections that come and go."""

import machine
from stage import (MIB, QUEUED_MAX, Mice, Result, alive, median, no_errors, percentile_us, settled,
                   taken_by)


MORE_THAN_CAN_BE = 10 ** 6  # operations a second


def capacity(stage, address):
    """What is answered of an open loop that asks for more than can be, a second.

    The least of several tries: machines change their speed, and a load above what they can do at
    their slowest measures how a queue grows.
    """
    tries, seconds = (5, 3) if stage.size.strict else (1, 0.3)
    return min(Mice(stage, address, seconds, rate=MORE_THAN_CAN_BE).report()["ops_per_s"]
               for _ in range(tries))


def soak(stage):
    """Memory, descriptors and p99 at the end are what they were at the beginning."""
    size, result = stage.size, Result("soak", stage.engine)
    server = stage.server()
    pid, address = server.process.pid, server.addresses[0]
    idle = taken_by(server)
    rate = 0.8 * capacity(stage, address)
    count = int(size.soak_s / size.slice_s)
    churn_rate = 200 if not size.sanitized else 20
    rows = []
    for _ in range(count):
        churn = Mice(stage, address, size.slice_s, "--churn", "10", connections=20,
                     rate=churn_rate)
        main = Mice(stage, address, size.slice_s, rate=max(rate - 10 * churn_rate, 100))
        mine, come_and_go = main.report(), churn.report()
        no_errors(result, mine)
        no_errors(result, come_and_go, "errors of those that come and go")
        ordinary, direct = settled(server, idle)
        rows.append({"resident": machine.resident(pid), "descriptors": ordinary, "direct": direct,
                     "p99_us": percentile_us(mine, 99), "ops": mine["ops"],
                     "connections": come_and_go["ops"]})
    judge(result, size, rows)
    result.figure("operations a second", rate)
    alive(result, server)
    return result


def judge(result, size, rows):
    third = max(len(rows) // 3, 1)
    first, last = rows[:third], rows[-third:]
    grown = max(row["resident"] for row in last) - max(row["resident"] for row in first)
    p99s = [median(row["p99_us"] for row in part) for part in (first, last)]
    result.figure("seconds", size.soak_s)
    result.figure("operations", sum(row["ops"] for row in rows))
    result.figure("connections that came and went", sum(row["connections"] for row in rows))
    result.figure("resident, MiB", rows[-1]["resident"] / MIB)
    result.figure("growth from the first third to the last, KiB", grown / 1024)
    result.figure("p99 of the first and the last third, us", p99s)
    result.figure("slices", rows)
    result.need("descriptors more than at first",
                max(row["descriptors"] for row in last) - first[0]["descriptors"], 0)
    result.need("direct descriptors more than at first",
                max(row["direct"] for row in last) - first[0]["direct"], 0)
    if not size.sanitized:  # in seconds queues and pools are still filling, up to their bound
        result.need("growth, bytes", grown, MIB if size.strict else QUEUED_MAX)
    if size.strict:
        result.need("p99 of the last third over the first", p99s[1] / p99s[0], 1.5)


SCENES = (soak,)
