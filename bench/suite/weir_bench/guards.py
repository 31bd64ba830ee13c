"""What spoils a trial. Each guard looks at one trial and returns a sentence, or None.

"invalid": the trial is not counted. "warning": it is, and the table says so. "note": worth knowing.
"""

CLIENT_SHARE_MAX = 0.80
SERVER_SHARE_FULL = 0.95
OTHERS_SHARE_MAX = 0.05
STEAL_SHARE_MAX = 0.01
OFFERED_TOLERANCE = 0.02
LAG_NS_MAX = 100_000
DELAYED_ACK_NS = (38e6, 46e6)
IDLE_SHARE_MAX = 0.70       # below, something else than the two CPUs set the pace
LITTLE_TOLERANCE = 0.10
REST_MAX = 0.5              # so much a busy client may rest; more is no explanation
LITTLE_OPS_MIN = 15         # per request in flight; of fewer, those at the window's ends are many
BITS_PER_S_MAX = 1e12       # no loopback moves that much: the copies alone need more memory
UNSTEADY_MAX = 0.20
IMBALANCE_MAX = 1.5
CROWD_SHARE = 0.2           # a thread that uses less of a CPU is not in the way
MIGRATIONS_MAX = 20
MHZ_TOLERANCE = 0.05
TIME_WAIT_MAX = 20_000
UNFINISHED_MAX = 0.001
GAP_SECONDS_MAX, GAP_SHARE_MAX = 0.1, 0.1   # between two looks at the clocks
UNREST_MAX = 0.10           # of a CPU, by a server that nobody asks for anything
RESIDENT_MIN = 0.99
COLD_MAX = 0.5              # what one pass over the file may have brought in by its end


def percent(part):
    return f"{100 * part:.1f} %"


def engine_is_another(trial):
    asked, ran = trial["engine_asked"], trial["server"].get("engine")
    if asked and ran and ran != asked:
        return f"engine {asked} was asked for, {ran} ran"
    return None


def payload_errors(trial):
    count = sum(n for kind, n in trial["errors"].items()
                if any(word in kind for word in ("payload", "mismatch", "verify", "corrupt")))
    return f"{count:g} replies had a wrong payload" if count else None


def nothing_done(trial):
    return "no operation was done" if not trial["metrics"].get("ops_per_s") else None


def load_errors(trial):
    kinds = {kind: n for kind, n in trial["errors"].items() if n}
    if kinds and not payload_errors(trial):
        return "errors: " + ", ".join(f"{kind} {n:g}" for kind, n in sorted(kinds.items()))
    return None


def client_was_limit(trial):
    cpu = trial["cpu"]
    client, server = cpu["client_share"], cpu["server_share"]
    # An open loop spins before each departure, so there the lag tells, not the CPU. And with one
    # request in flight the two take turns: neither can be full.
    exempt = trial["open"] or trial["in_flight"] == 1
    if not exempt and client > CLIENT_SHARE_MAX and server < SERVER_SHARE_FULL:
        return (f"the client was the limit: its CPU was busy {percent(client)}, "
                f"the server's {percent(server)}")
    return None


def nobody_was_busy(trial):
    cpu = trial["cpu"]
    if trial["open"] or trial["in_flight"] == 1 or client_was_limit(trial):
        return None
    busiest = max(cpu["client_share"], cpu["server_share"])
    # Of what the hypervisor left.
    busy_enough = IDLE_SHARE_MAX * (1 - cpu["steal_share"])
    if busiest < busy_enough and not forty_milliseconds(trial):
        return (f"neither side was busy (server {percent(cpu['server_share'])}, client "
                f"{percent(cpu['client_share'])}): something else set the pace: a throttled "
                "client, a wait, or what else runs here")
    return None


def client_near_ceiling(trial):
    ceiling, rate = trial.get("ceiling_per_s"), trial["metrics"].get("ops_per_s")
    if ceiling and rate and not trial["open"] and rate * 1.5 > ceiling:
        return f"the load's calibrated ceiling, {ceiling:,.0f}/s, is less than 1.5 times that rate"
    return None


def not_conforming(trial):
    wrong = trial.get("conformance")
    return f"the conformance run before: {wrong}" if wrong else None


def accept_imbalance(trial):
    count = trial["server"].get("stats", {}).get("threads", 1)
    spent = trial.get("witness", {}).get("thread_cpu_ns", [])[:count]
    # One connection can only be on one thread.
    if count < 2 or len(spent) < count or trial["in_flight"] < 2 * count or not sum(spent):
        return None
    ratio = max(spent) * count / sum(spent)
    if ratio > IMBALANCE_MAX:
        return f"one of {count} threads did {ratio:.1f} times its part: connections are uneven"
    return None


def frequency_changed(trial):
    before, after = trial.get("witness", {}).get("mhz", ([], []))
    for old, new in zip(before, after):
        if abs(new / old - 1) > MHZ_TOLERANCE:
            return f"the server's CPU went from {old:.0f} to {new:.0f} MHz"
    return None


def server_migrated(trial):
    moves = trial.get("witness", {}).get("migrations", 0)
    return f"the server changed its CPU {moves} times" if moves > MIGRATIONS_MAX else None


def uses_sqpoll(trial):
    plan = str(trial["server"].get("stats", {}).get("plan", ""))
    return "sqpoll" in plan.replace("no:sqpoll", "") or "sqpoll" in " ".join(
        trial["server"].get("command", []))


def more_threads_than_cores(trial):
    seconds = trial["seconds"] + trial["warmup"]
    busy = sum(ns / 1e9 / seconds > CROWD_SHARE
               for ns in trial.get("witness", {}).get("thread_cpu_ns", []))
    polls = uses_sqpoll(trial)
    needed = max(busy, 2 if polls else 1) + 1
    if needed > trial["cpus_allowed"]:
        return (f"{needed} busy threads{', one of them SQPOLL,' if polls else ''} share "
                f"{trial['cpus_allowed']} CPUs")
    if polls and trial["server_cpus"] < 2:
        return "SQPOLL's thread shares the server's one CPU"
    return None


def network_counter(name, limit, sentence):
    """A guard on what the network of the server counted meanwhile."""
    def guard(trial):
        count = trial.get("witness", {}).get("network", {}).get(name, 0)
        return f"{count} {sentence}" if count > limit else None
    return guard


def in_flight_seen(trial):
    """What rate times mean time says is in flight in a closed loop; None: it can say nothing.

    Exact with what requests at the ends of the window have on their other side. A load that does
    not say how much that is can be judged only where such requests are few.
    """
    rate, mean, seconds = trial["metrics"].get("ops_per_s"), trial.get("mean_ns"), trial["seconds"]
    if trial["open"] or not rate or not mean or trial.get("churn"):
        return None
    if (carried := trial.get("carried_ns")) is not None:
        return (trial["samples"] * mean + carried) / (seconds * 1e9)
    return rate * mean / 1e9 if rate * seconds >= LITTLE_OPS_MIN * trial["in_flight"] else None


def littles_law_broken(trial):
    """In a closed loop, rate times mean time is what is in flight, whatever happens."""
    seen, wanted = in_flight_seen(trial), trial["in_flight"]
    if seen is None:
        return None
    exact = trial.get("carried_ns") is not None
    done = trial["metrics"]["ops_per_s"] * trial["seconds"]
    if exact and abs(done - trial["samples"]) > wanted + 1:
        return f"{done:,.0f} operations, but {trial['samples']:,} latencies, {wanted} in flight"
    # A client that is kept from its work leaves some unsent, and that is another guard's.
    low = REST_MAX if exact else LITTLE_TOLERANCE
    if not 1 - low <= seen / wanted <= 1 + LITTLE_TOLERANCE:
        return (f"rate times latency is {seen:.3g}, but {wanted} are in flight: "
                "one of them is not what it is called")
    return None


def client_rested(trial):
    seen = in_flight_seen(trial)
    if seen is None or trial.get("carried_ns") is None:
        return None
    if 1 - REST_MAX <= seen / trial["in_flight"] < 1 - LITTLE_TOLERANCE:
        return (f"of {trial['in_flight']} requests only {seen:.3g} were in flight on average: the "
                "client was slow to send the next, or was kept from it")
    return None


def faster_than_physics(trial):
    bits = 8 * trial["size"] * (trial["metrics"].get("ops_per_s") or 0)
    return f"{bits / 1e9:,.0f} Gbit/s is more than this can be" if bits > BITS_PER_S_MAX else None


def not_steady(trial):
    halves = trial["cpu"].get("server_halves") or [0, 0]
    if min(halves) > 0.05 and max(halves) / min(halves) - 1 > UNSTEADY_MAX:
        return f"the server used {percent(halves[0])} of a CPU, then {percent(halves[1])}"
    return None


def not_finished(trial):
    count, done = trial.get("unfinished") or 0, trial.get("samples") or 0
    if trial["open"] and count > UNFINISHED_MAX * (done + count):
        return f"{count:g} requests were due and not answered in time"
    return None


def cache_is_not_as_asked(trial):
    file = trial.get("file")
    if file and file["cache"] == "warm" and min(file["before"], file["after"]) < RESIDENT_MIN:
        return f"only {percent(min(file['before'], file['after']))} of the file was in the cache"
    if file and file["cache"] == "cold" and file["before"] > 1 - RESIDENT_MIN:
        return f"{percent(file['before'])} of the file was in the cache before the trial"
    if file and file["cache"] == "cold" and file["after"] > COLD_MAX:
        return f"{percent(file['after'])} of the file was in the cache during the trial"
    return None


def departures_late(trial):
    lag = trial.get("lag_p99_ns")
    if trial["open"] and lag is not None and lag > LAG_NS_MAX:
        return f"1 % of the requests left more than {lag / 1e6:.2f} ms late"
    return None


def offered_is_not_achieved(trial):
    offered, achieved = trial.get("offered_per_s"), trial["metrics"].get("ops_per_s")
    if offered and achieved and abs(achieved / offered - 1) > OFFERED_TOLERANCE:
        return f"{offered:,.0f}/s were offered, {achieved:,.0f}/s achieved"
    return None


def machine_was_busy(trial):
    share = trial["cpu"]["others_share"]
    if share > OTHERS_SHARE_MAX:
        return f"the machine was busy: others used {percent(share)} of a CPU"
    return None


def seldom_looked_at(trial):
    gap, window = trial["cpu"].get("samples_gap_s", 0), trial["cpu"].get("window_s", 0)
    if gap > max(GAP_SECONDS_MAX, GAP_SHARE_MAX * window):
        return f"weir-bench was kept from reading clocks for {gap:.2f} of {window:.2f} s"
    return None


def somebody_did_not_rest(trial):
    rest = trial.get("unrest") or {}
    if rest.get("share", 0) > UNREST_MAX:
        return (f"{rest['variant']} used {percent(rest['share'])} of a CPU while others had their "
                "turns")
    return None


def time_was_stolen(trial):
    share = trial["cpu"]["steal_share"]
    return f"{percent(share)} of the time was stolen" if share > STEAL_SHARE_MAX else None


def forty_milliseconds(trial):
    low, high = DELAYED_ACK_NS
    metrics, cpu = trial["metrics"], trial["cpu"]
    p50, p99 = metrics.get("p50_ns") or 0, metrics.get("p99_ns") or 0
    # Queues are long in time, too, but they do not leave both CPUs idle or only the tail late.
    if low <= p50 <= high and max(cpu["server_share"], cpu["client_share"]) < 0.5:
        return f"p50 is {p50 / 1e6:.0f} ms and nobody is busy: Nagle against delayed ACK?"
    if low <= p99 <= high and p50 < p99 / 4:
        return f"p99 is {p99 / 1e6:.0f} ms, p50 is not: Nagle against delayed ACK?"
    return None


def server_did_not_drain(trial):
    return None if trial["server"].get("drained", True) else "the server had to be killed"


def counter(name, sentence):
    """A guard on one counter of the server's statistics."""
    def guard(trial):
        count = trial["server"].get("stats", {}).get(name, 0)
        return f"{count:g} {sentence}" if count else None
    return guard


GUARDS = (
    ("engine", "invalid", engine_is_another),
    ("payload", "invalid", payload_errors),
    ("nothing-done", "invalid", nothing_done),
    ("errors", "warning", load_errors),
    ("client-limit", "warning", client_was_limit),
    ("nobody-busy", "warning", nobody_was_busy),
    ("near-ceiling", "warning", client_near_ceiling),
    ("conformance", "invalid", not_conforming),
    ("little", "invalid", littles_law_broken),
    ("client-rests", "warning", client_rested),
    ("physics", "invalid", faster_than_physics),
    ("page-cache", "invalid", cache_is_not_as_asked),
    ("unfinished", "warning", not_finished),
    ("imbalance", "warning", accept_imbalance),
    ("frequency", "warning", frequency_changed),
    ("migrations", "warning", server_migrated),
    ("crowded", "warning", more_threads_than_cores),
    ("unsteady", "warning", not_steady),
    ("listen-overflow", "warning",
     network_counter("listen_overflows", 0, "connections overflowed a listen queue")),
    ("tcp-timeouts", "note", network_counter("tcp_timeouts", 0, "TCP timers ran out")),
    ("time-wait", "note",
     network_counter("time_wait", TIME_WAIT_MAX, "connections wait in TIME_WAIT")),
    ("departures-late", "warning", departures_late),
    ("offered", "warning", offered_is_not_achieved),
    ("overflow", "warning", counter("overflows", "times the completion queue overflowed")),
    ("accept-errors", "warning", counter("accept_errors", "accepts failed")),
    ("machine-busy", "warning", machine_was_busy),
    ("seldom-read", "warning", seldom_looked_at),
    ("unrest", "warning", somebody_did_not_rest),
    ("steal", "warning", time_was_stolen),
    ("40-ms", "warning", forty_milliseconds),
    ("no-drain", "warning", server_did_not_drain),
    ("no-buffers", "note", counter("receive_no_buffers", "receives found no buffer (ENOBUFS)")),
    ("short-sends", "note", counter("short_sends", "sends were short")),
    ("zero-copy-copied", "warning",
     counter("zero_copy_copied", "zero-copy sends were copied after all")),
    ("worker-punts", "note", counter("worker_punts", "operations went to kernel workers")),
)


def check(trial):
    """Returns the guards that spoke, as they are kept in the JSON."""
    return [{"guard": name, "severity": severity, "text": text}
            for name, severity, guard in GUARDS if (text := guard(trial))]
