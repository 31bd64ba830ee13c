"""Scenes about the end: SIGTERM under load, and a server that is killed and comes back."""

import concurrent.futures
import ftplib
import json
import os
import re
import signal
import threading
import time

import programs
from stage import MIB, Peers, Result, alive, let_run, terminate

QUIET_CLIENTS = 4
CAP_S = 10  # the default of --drain-timeout


def play_term_http(stage, scene, depth, *options, starve_s=0):
    """SIGTERM beside clients that never stop asking, and get no processor for so long before."""
    size, result = stage.size, Result(scene, stage.engine)
    folder = stage.folder()
    root, log = os.path.join(folder, "root"), os.path.join(folder, "log")
    os.mkdir(root)
    with open(os.path.join(root, "file"), "wb") as file:
        # The log drops lines, and says so, where the disk is slower than the requests.
        file.write(os.urandom(4000 * depth))
    server = stage.server("--root", root, "--access-log", log, "--access-log-format", "json",
                          *options, name="http")
    peers = Peers(stage, "http", server.addresses[0], connections=size.term, depth=depth,
                  expect=os.path.join(root, "file"),
                  # What is unread then lies in the server's sockets, and ends with them.
                  **({"buffer": 16384} if starve_s else {}))
    peers.until("served")
    let_run(size.term_s)
    if starve_s:
        peers.process.send_signal(signal.SIGSTOP)
        woken = threading.Timer(starve_s, peers.process.send_signal, (signal.SIGCONT,))
        woken.start()
    took_s = terminate(result, server, size, CAP_S)
    report = peers.report()
    with open(log, encoding="utf-8") as file:
        logged = sum(json.loads(line)["status"] == 200 for line in file)
    said = re.search(rb"access log: (\d+) lines were dropped", server.process.stderr.read())
    dropped = int(said[1]) if said else 0
    result.figure("connections", size.term)
    result.figure("answers", report["received"])
    result.figure("asked and not answered", report["unanswered"])
    result.figure("connections that ended with a reset", report["reset"])
    result.figure("of those, told by a send", report["send_reset"])
    result.figure("asked after a rest, and not answered", report["unanswered_rested"])
    result.figure("until the end, s", took_s)
    result.need("answers", report["received"], size.term, least=True)
    result.figure("lines that the access log dropped", dropped)
    result.need_equal("accepted requests lost", logged + dropped - report["received"], 0)
    # A client cannot know whether a request that ended so was taken.
    result.need("connections that ended with a reset", report["reset"], 0)
    if depth == 1:  # those behind a last answer in a pipeline know that they may be asked again
        # Who rests for 200 ms is taken for idle, and a machine that stands still lets all rest.
        result.need("asked without a rest, and not answered",
                    report["unanswered"] - report["unanswered_rested"], 0)
    result.need_equal("answers cut short", report["partial"], 0)
    result.need_equal("altered answers", report["wrong"] + report["not_ok"], 0)
    result.need_equal("connections that did not end", report["open"], 0)
    return result


def term_http(stage):
    """Every request that the server took is answered whole."""
    return play_term_http(stage, "SIGTERM, http", 1)


def term_http_pipelined(stage):
    """The same with eight requests in flight on each connection."""
    return play_term_http(stage, "SIGTERM, http, pipelined", 8)


def term_http_starved(stage):
    """The same with clients that sleep when SIGTERM comes, their answers unread in both kernels."""
    result = play_term_http(stage, "SIGTERM, http, starved", 8, starve_s=stage.size.starve_s)
    result.figure("kept from a processor, s", stage.size.starve_s)
    return result


def term_echo(stage):
    """Clients that are in the middle of sending finish, and get back every byte.

    Echo has no requests, so a drain takes who was quiet for 200 ms to have finished. Exactly this
    may be lost: what a client sent after a rest. If it lacks any byte from before, or an end of the
    server cuts into what it sent without a rest, bytes that the server took were lost.
    """
    size, result = stage.size, Result("SIGTERM, echo", stage.engine)
    for _ in range(3):
        server = stage.server()
        peers = Peers(stage, "flood", server.addresses[0], connections=size.term_echo,
                      bytes=size.term_mib * MIB)
        peers.until("served")
        took_s = terminate(result, server, size, CAP_S)
        report = peers.report()
        result.need_equal("connections that lost bytes from before a rest",
                          size.term_echo - report["finished"] - report["rested"], 0)
        result.need_equal("altered bytes", report["wrong"], 0)
        if report["rested"] < size.term_echo:
            break  # otherwise the machine let all of them rest, and they have shown nothing
    result.figure("connections", size.term_echo)
    result.figure("bytes, MiB", report["received"] / MIB)
    result.figure("until the end, s", took_s)
    result.figure("connections that got all back", report["finished"])
    result.figure("ended after a rest of theirs", report["rested"])
    result.need("connections that got all back", report["finished"], 1, least=True)
    return result


def term_endless(stage):
    """Clients that never end are cut off at the cap."""
    size, result = stage.size, Result("SIGTERM, endless load", stage.engine)
    cap_s = 1 if size.strict else 0.3
    server = stage.server("--drain-timeout", str(cap_s))
    peers = Peers(stage, "flood", server.addresses[0], connections=size.term)
    peers.until("served")
    let_run(size.term_s)
    took_s = terminate(result, server, size, cap_s)
    report = peers.report()
    result.figure("cap, s", cap_s)
    result.figure("until the end, s", took_s)
    result.need_equal("connections that did not end", report["open"], 0)
    result.need_equal("altered bytes", report["wrong"], 0)
    return result


def fetch(*arguments):
    """How many bytes of a download came, or what came instead."""
    try:
        return download(*arguments)
    except (OSError, EOFError, ftplib.Error) as error:
        return f"{type(error).__name__}: {error}"


def download(address, started, go):
    """Downloads slowly enough that SIGTERM comes in the middle. Returns the bytes."""
    host, port = address.split(":")
    client = ftplib.FTP()
    client.connect(host, int(port), timeout=programs.LIMIT)
    client.login()
    client.voidcmd("TYPE I")
    data = client.transfercmd("RETR file")
    with data:
        body = bytearray(programs.receive(data, 65536))
        started.release()
        go.wait(programs.LIMIT)
        body += programs.receive_end(data)
    said = client.getresp()
    client.close()
    return len(body) if said.startswith("226") else said


def term_ftp(stage):
    """Transfers that run are finished."""
    count, length = stage.size.term_ftp, stage.size.term_ftp_mib * MIB
    result = Result("SIGTERM, ftp", stage.engine)
    root = stage.folder()
    with open(os.path.join(root, "file"), "wb") as file:
        file.write(os.urandom(length))
    # A cap that no machine reaches: how long the clients take is theirs.
    server = stage.server("--root", root, "--anonymous", "--drain-timeout", "100", name="ftp")
    started, go = threading.Semaphore(0), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        runs = [pool.submit(fetch, server.addresses[0], started, go)
                for _ in range(count)]
        for _ in range(count):
            started.acquire(timeout=programs.LIMIT)
        server.signal(signal.SIGTERM)
        server.log.until("draining")
        go.set()
        whole = sum(run.result() == length for run in runs)
    result.figure("transfers", count)
    result.need_equal("transfers that became whole", whole, count)
    result.need_equal("exit status after SIGTERM", server.process.wait(programs.LIMIT), 0)
    return result


def kill_restart(stage):
    """kill -9 under load, and a new server on the same addresses at once."""
    size, result = stage.size, Result("kill -9 and restart", stage.engine)
    # A loopback address that nobody else uses keeps its port free for the next server.
    listen = [f"127.84.{os.getpid() >> 8 & 255}.{os.getpid() & 255}:0",
              f"unix:{stage.folder()}/socket"]
    times_s = []
    for _ in range(size.kills):
        server = stage.server(listen=listen)
        listen = server.addresses  # the port that was free is asked for from now on
        peers = Peers(stage, "flood", listen[0], connections=size.term)
        local = Peers(stage, "flood", listen[1], connections=4)
        peers.until("ready")
        local.until("ready")
        # Among floods the end is a reset, and leaves nothing. Who owes and is owed nothing keeps
        # half a connection of the dead server alive, and with it its address.
        quiet = [programs.connect(listen[0]) for _ in range(QUIET_CLIENTS)]
        for client in quiet:
            stage.context.callback(client.close)
            client.sendall(b"stay")
            result.need_equal("served before", programs.receive(client, 4).decode(), "stay")
        let_run(0.05)
        begin = time.monotonic()
        server.process.kill()
        server.process.wait()
        try:
            server = stage.server(listen=listen)
        except AssertionError as error:
            result.figure("the start that failed", str(error))
            break
        for address in listen:
            with programs.connect(address) as client:
                client.sendall(b"back")
                result.need_equal("served again", programs.receive(client, 4).decode(), "back")
        times_s.append(time.monotonic() - begin)
        for report in (peers.end(), local.end()):
            result.need_equal("altered bytes", report["wrong"], 0)
        alive(result, server)
        server.kill()
    result.figure("kills", size.kills)
    result.need("server started again", len(times_s), size.kills, least=True)
    if times_s:
        result.figure("until served again, median s", sorted(times_s)[len(times_s) // 2])
        result.figure("until served again, most s", max(times_s))
        # Beside other tests any start may be slow, but not the best of them.
        result.need("until served again, s", max(times_s) if size.strict else min(times_s),
                    1.0 if size.strict else 5.0)
    return result


SCENES = (term_http, term_http_pipelined, term_http_starved, term_echo, term_endless, term_ftp,
          kill_restart)
