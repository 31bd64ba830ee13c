"""Each guard is provoked by turns, too: what is alive at once must not hide or share a fault."""

import os
import tempfile
import unittest
from unittest import mock

import suite_path
from weir_bench import guards, process, relay, witness
from weir_bench.load import WeirLoad
from weir_bench.sample import Machine
from weir_bench.scenario import Cell, Variant
from weir_bench.trial import Order, Setting

TURNS, TURN = 6, 0.008

# What other programs on this machine may bring about at any time.
MOOD = {"machine-busy", "steal", "unsteady", "nobody-busy", "client-limit", "frequency",
        "tcp-timeouts", "listen-overflow", "time-wait"}

# The guards, what the server of the variant does, and what its load does.
CLOSED = (
    ("", "", ""),
    ("engine errors overflow accept-errors no-buffers short-sends zero-copy-copied worker-punts "
     "near-ceiling conformance",
     "--engine uring --fault other-engine --counter overflows=3 --counter accept_errors=3 "
     "--counter receive_no_buffers=3 --counter short_sends=3 --counter zero_copy_copied=3 "
     "--counter worker_punts=3", "resets"),
    ("payload imbalance", "--fault idle-thread", "corrupt"),
    ("nothing-done no-drain", "--fault no-drain", "does-nothing"),
    ("little crowded", "--engine uring --uring default,sqpoll", "no-law"),
    ("client-rests", "", "rests"),
    ("physics", "", "boasts"),
    ("40-ms", "", "breathes,forty"),
)
BUSY = (("client-limit", "", "spin"), ("nobody-busy", "", "throttle"), ("unsteady", "", "tires"))
OPEN = (("unfinished", "", "unfinished"), ("departures-late", "", "late"),
        ("offered", "", "half-rate"))
MACHINE = ("steal", "frequency", "machine-busy", "page-cache")
NETWORK = ("listen-overflow", "tcp-timeouts", "time-wait")
# In turns_test.py, and below; and turns have their costs from their borders, whatever the gap.
ELSEWHERE = ("unrest", "migrations", "seldom-read")


class FaultyLoad(WeirLoad):
    """A load per variant, told apart by its seed."""

    def __init__(self, path, faults):
        super().__init__(path)
        self.faults = faults

    def command(self, cell, values, turns=False):
        return ["env", f"FAKE_LOAD={self.faults[values['seed']]}",
                *super().command(cell, values, turns)]


class SadMachine(Machine):
    """More and more is stolen from it and used by others: both are in its counters."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def read(self):
        self.reads += 1
        used, stolen = super().read()
        return used + self.reads * 10_000_000, stolen + self.reads * 10_000_000


class Guards(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name

    def run_turns(self, cell, faults, machine=None, changes=None):
        """Returns {guards that are asked for: those that spoke}, a variant each."""
        here = suite_path.HERE
        machine = machine or Machine()
        self.addCleanup(machine.close)
        load = FaultyLoad(os.path.join(here, "fake_weir_load.py"),
                          {seed: fault for seed, (_, _, fault) in enumerate(faults)})
        cpus = os.sched_getaffinity(0)
        setting = Setting({"weir": os.path.join(here, "fake_weir.py")}, load, self.folder, machine,
                          {min(cpus)}, {max(cpus)})
        orders = []
        for seed, (name, options, _) in enumerate(faults):
            engine = "uring" if "uring" in options else "epoll"
            variant = Variant(f"v{seed}", "{weir} echo --listen {address} --stats-json {stats} "
                              "--slow-us 200 " + (options or "--engine epoll"), engine)
            orders.append(Order(cell, variant, 0, TURNS * TURN, 0, seed, rate=cell.rate,
                                **(changes or {}).get(name, {})))
        records = relay.run(setting, orders, TURNS)
        for record in records:
            self.assertNotEqual(record["status"], "failed", record.get("failure"))
        return {name: {guard["guard"] for guard in record["guards"]}
                for (name, _, _), record in zip(faults, records)}

    def test_a_fault_is_that_of_its_variant_alone(self):
        """Servers and loads with faults, all alive at once: each guard speaks where its fault is
        and nowhere else, and one that has no fault is left alone."""
        changes = {CLOSED[1][0]: {"ceiling": 1.0, "conformance": "wrong"}}
        # Long enough for one that has to wait for a CPU; who must be killed costs so much once.
        with mock.patch.object(process.Child.stop, "__defaults__", (10,)):
            found = self.run_turns(Cell("a", connections=4, turns=TURNS, turn=TURN), CLOSED,
                                   changes=changes)
        for names, spoke in found.items():
            wanted = set(names.split())
            self.assertEqual(spoke - (MOOD - wanted), wanted)

    def test_a_client_that_is_full_rests_or_tires_is_seen(self):
        """Each in the turns of its own load. Where others take its CPU a client cannot be full, and
        a server's part may stay the same: then that is said."""
        found = self.run_turns(Cell("a", connections=4, turns=TURNS, turn=TURN), BUSY)
        for name, spoke in found.items():
            self.assertTrue(spoke & {name, "machine-busy"}, found)
        self.assertIn("nobody-busy", found["nobody-busy"])

    def test_an_open_loop_is_held_to_its_schedule(self):
        """What was not answered, left late, or was less than what was offered."""
        found = self.run_turns(Cell("a", connections=4, rate=2000.0, turns=TURNS, turn=TURN), OPEN)
        for name, spoke in found.items():
            self.assertIn(name, spoke)
        self.assertNotIn("unfinished", found["departures-late"])
        self.assertNotIn("departures-late", found["offered"])

    def test_the_machine_is_watched(self):
        """Stolen time, a clock that changes, strangers, and a file that leaves the page cache."""
        file = os.path.join(self.folder, "file")
        with open(file, "wb") as out:
            out.write(b"x" * 4096)
        clocks, resident = iter([{0: 2000.0}, {0: 1000.0}]), iter([1.0, 0.4])
        with mock.patch.object(witness, "frequencies", lambda cpus: next(clocks)), \
                mock.patch.object(relay, "residency", lambda path: next(resident)):
            found = self.run_turns(Cell("a", connections=2, file=file, turns=TURNS, turn=TURN),
                                   (("all", "", ""),), SadMachine())
        self.assertLessEqual(set(MACHINE), found["all"])

    def test_what_the_network_counts_is_of_the_server_whose_turn_it_is(self):
        """Counters that all servers of a network share: one has the fault, and its guards speak
        for it alone; connections that wait in TIME_WAIT are everybody's."""
        counters = {"listen_overflows": 0, "tcp_timeouts": 0, "time_wait": 30_000}

        def read(pid):
            with open(f"/proc/{pid}/cmdline", encoding="ascii") as cmdline:
                if "culprit=1" in cmdline.read():
                    counters["listen_overflows"] += 1
                    counters["tcp_timeouts"] += 1
            return dict(counters)

        with mock.patch.object(relay, "network_counters", read), \
                mock.patch.object(witness, "network_counters", read):
            found = self.run_turns(Cell("a", connections=2, turns=TURNS, turn=TURN),
                                   (("culprit", "--counter culprit=1", ""), ("other", "", "")))
        self.assertLessEqual(set(NETWORK), found["culprit"])
        self.assertEqual(found["other"] & set(NETWORK), {"time-wait"})

    @unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "needs two CPUs to go from one to the other")
    def test_a_server_that_changes_its_cpu_is_seen(self):
        """Between any two of its echoes; the one beside it stays."""
        if witness.threads([os.getpid()])[os.getpid()][1] is None:
            self.skipTest("this kernel does not tell of migrations")
        with mock.patch.object(guards, "MIGRATIONS_MAX", 3):
            found = self.run_turns(Cell("a", connections=2, turns=TURNS, turn=TURN),
                                   (("wanders", "--fault wanders", ""), ("stays", "", "")))
        self.assertIn("migrations", found["wanders"])
        self.assertNotIn("migrations", found["stays"])

    def test_every_guard_is_provoked(self):
        """A new guard needs a new line above."""
        provoked = {name for names, _, _ in (*CLOSED, *BUSY, *OPEN) for name in names.split()}
        self.assertEqual({name for name, _, _ in guards.GUARDS},
                         provoked | {*MACHINE, *NETWORK, *ELSEWHERE})


if __name__ == "__main__":
    unittest.main()
