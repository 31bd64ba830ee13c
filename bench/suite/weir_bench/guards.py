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
    ("departures-late", "warning", departures_late),
    ("offered", "warning", offered_is_not_achieved),
    ("overflow", "warning", counter("overflows", "times the completion queue overflowed")),
    ("accept-errors", "warning", counter("accept_errors", "accepts failed")),
    ("machine-busy", "warning", machine_was_busy),
    ("steal", "warning", time_was_stolen),
    ("40-ms", "warning", forty_milliseconds),
    ("no-drain", "warning", server_did_not_drain),
    ("no-buffers", "note", counter("receive_no_buffers", "receives found no buffer (ENOBUFS)")),
    ("worker-punts", "note", counter("worker_punts", "operations went to kernel workers")),
)


def check(trial):
    """Returns the guards that spoke, as they are kept in the JSON."""
    return [{"guard": name, "severity": severity, "text": text}
            for name, severity, guard in GUARDS if (text := guard(trial))]
