"""Why a cell costs what it costs: profiled trials of each variant, apart from what is timed.

Three trials: one clean, for the CPU shares that name the limiter; one under `perf record` by the
CPU clock, which virtual machines have, too; one under `perf stat` with the tracepoints of system
calls and io_uring. Where perf or a right is missing, the line says so and the rest stands.
"""

import os
import re
import shutil
import subprocess

from . import trial
from .trial import Order

TOP = 12
RECORD = ("perf record -q -e cpu-clock -F 1999 -p {pid} -o {folder}/perf.data -- sleep {seconds}")
COUNT = ("perf stat -x , -e raw_syscalls:sys_enter -e io_uring:* -e sched:sched_switch -p {pid} "
         "-- sleep {seconds}")

# The first that fits names the part of the kernel; so the special ones stand first.
SUBSYSTEMS = (
    ("io_uring", r"(__)?io_(?!schedule)|__do_sys_io_uring|req_"),
    ("epoll", r"(__)?ep_|(do_)?epoll|__do_sys_epoll"),
    ("copies", r"_?_?copy_|_copy|rep_movs|memcpy|.*copy_(to|from)|simple_copy|skb_copy_datagram|"
               r".*_iter$|csum_"),
    ("TCP and IP", r"(__)?tcp_|(__)?ip_|__ip|inet|bbr|cubic|ipv[46]|(__)?inet|fib_|dst_"),
    ("network core", r"(__)?skb|(__)?sk_|sock|(__)?dev_|net_|(__)?netif|napi|process_backlog|"
                     r"loopback|nf_|qdisc|validate_xmit|eth_|__?alloc_skb|kfree_skb|__sys_|"
                     r"(__)?send|(__)?recv"),
    ("scheduler", r"(__)?sched|(__)?schedule|finish_task|try_to_wake|ttwu|pick_|(en|de)queue_|"
                  r"update_(curr|load|rq|cfs)|(__)?wake|autoremove_wake|psi_|set_next|put_prev|"
                  r"switch_|__switch|prepare_task|native_write_msr|default_idle|(__)?wait"),
    ("locks", r"_?_?raw_spin|mutex_|(__)?lock_|native_queued|queued_|rwsem|down_|up_|local_bh|"
              r"__local_bh"),
    ("memory", r"kmem|k[mz]alloc|kfree|(__)?slab|__slab|.*_slab|(__)?alloc_|(__)?free_|"
               r"(__)?page|folio|(__)?mod_|refill|get_page|mem_cgroup|___?slab|memset|build_"),
    ("system call entry", r"entry_|do_syscall|syscall_|x64_sys|__x64_sys|__se_sys|asm_|"
                          r"srso_|clear_bhb|its_|error_"),
    ("timers and clocks", r"hrtimer|(__)?timer|ktime|read_tsc|(__)?mod_timer|clock|tick_|"
                          r"pvclock|kvm_clock|lapic"),
    ("interrupts and RCU", r"(__)?do_softirq|handle_softirq|(__)?rcu|irq|(__)?irq|sysvec|"
                           r"call_function|smp_"),
    ("files", r"vfs_|f(get|put|dget)|__fget|__fdget|(__)?file|ksys|sys_|security_|apparmor|"
              r"rw_verify"),
)
OWN, OTHER = "the server's own code", "kernel, other"


def subsystem(symbol, in_kernel):
    if not in_kernel:
        return OWN
    return next((name for name, pattern in SUBSYSTEMS if re.match(pattern, symbol)), OTHER)


def group(script):
    """From `perf script -F ip,sym`: ({subsystem: samples}, {symbol: samples})."""
    parts, symbols = {}, {}
    for address, symbol in re.findall(r"^\s*([0-9a-f]+) (\S+)", script, re.M):
        in_kernel = len(address) == 16 and address.startswith("ffff")
        name = subsystem(symbol, in_kernel)
        parts[name] = parts.get(name, 0) + 1
        symbols[symbol] = symbols.get(symbol, 0) + 1
    return parts, symbols


def counts_of(said):
    """From `perf stat -x ,`: {event: count} of those that happened."""
    found = re.findall(r"^(\d+),[^,]*,([\w:]+),", said, re.M)
    return {event: int(count) for count, event in found if int(count)}


def limiter(record):
    """What sets the pace of the cell, by the shares of the clean trial."""
    cpu = record["cpu"]
    server, client = f"{cpu['server_share']:.0%}", f"{cpu['client_share']:.0%}"
    if record["open"]:
        return f"the offered rate: server {server}, client {client} of a CPU"
    if cpu["server_share"] >= 0.95:
        return f"the server's CPU, {server} busy"
    if record["in_flight"] == 1:
        return f"the round trip: server {server}, client {client}, they take turns"
    if cpu["client_share"] >= 0.8:
        return f"the client's CPU, {client} busy, the server's {server}"
    return f"waiting: server {server}, client {client} of a CPU"


def perf_script(folder):
    path = os.path.join(folder, "perf.data")
    said = subprocess.run(["perf", "script", "-i", path, "-F", "ip,sym"], capture_output=True,
                          text=True, timeout=60, check=False)
    return said.stdout


def explain(session, cell, variant):
    """Returns what three trials say, as a dict; every part may be missing with its reason."""
    setting, seconds = session.setting, session.scenario.seconds
    order = Order(cell, variant, 0, seconds, session.scenario.warmup, session.seed % (1 << 31),
                  session.rates.get(cell.name, cell.rate))
    found = {"cell": cell.name, "variant": variant.name, "missing": []}
    clean = trial.run(setting, order)
    found["status"] = clean["status"]
    if clean["status"] == "failed":
        return {**found, "missing": [clean["failure"]]}
    found.update(metrics=clean["metrics"], limiter=limiter(clean), stats=clean["server"]["stats"],
                 guards=[guard["text"] for guard in clean["guards"]])
    if shutil.which("perf") is None:
        return {**found, "missing": ["no profile and no counts: perf is not installed"]}
    profiled = watched(setting, order, RECORD, found)
    if profiled["status"] != "failed":
        found["parts"], found["symbols"] = group(perf_script(setting.folder))
    if not found.get("parts"):
        found["missing"].append("no profile: " + complaint(profiled))
    counted = watched(setting, order, COUNT, found)
    counts = counts_of(counted.get("instrument", {}).get("said", ""))
    # A server that ended badly, though perf had spoken, leaves nothing to divide by.
    if counts and (rate := counted.get("metrics", {}).get("ops_per_s")):
        found.update(counts=counts, counted_ops=rate * (seconds + session.scenario.warmup))
    else:
        found["missing"].append("no counts: " + complaint(counted))
    return found


def watched(setting, order, instrument, found):
    """A trial under that instrument. That it went wrong is in `found`, too."""
    if os.path.exists(path := os.path.join(setting.folder, "perf.data")):
        os.unlink(path)   # another trial's
    order.instrument = instrument
    record = trial.run(setting, order)
    if record["status"] != "ok":
        found["status"] = record["status"]
        found["missing"] += [f"{' '.join(instrument.split()[:2])}: {guard['text']}"
                             for guard in record.get("guards", ())
                             if guard["severity"] == "invalid"]
    return record


def complaint(record):
    said = record.get("failure") or record.get("instrument", {}).get("said", "").strip()
    return said.splitlines()[-1] if said else "perf said nothing"


def as_text(found):
    lines = [f"{found['cell']} {found['variant']}"]
    if "limiter" in found:
        lines.append(f"  limited by {found['limiter']}")
        lines += [f"  guard: {text}" for text in found["guards"]]
    if parts := found.get("parts"):
        total = sum(parts.values())
        lines.append(f"  where the server's CPU time goes ({total} samples):")
        lines += [f"    {100 * n / total:5.1f} %  {name}"
                  for name, n in sorted(parts.items(), key=lambda item: -item[1])]
        lines.append("  the hottest functions:")
        hottest = sorted(found["symbols"].items(), key=lambda item: -item[1])[:TOP]
        lines += [f"    {100 * n / total:5.1f} %  {name}" for name, n in hottest]
    if found.get("counts"):
        lines.append("  per operation:")
        lines += [f"    {count / found['counted_ops']:8.3f}  {event}"
                  for event, count in sorted(found["counts"].items(), key=lambda item: -item[1])]
    lines += [f"  {text}" for text in found["missing"]]
    return "\n".join(lines) + "\n"
