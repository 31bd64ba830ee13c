"""Each guard is provoked by a trial that has just its fault, and is silent otherwise."""

import copy
import os
import tempfile
import time
import unittest
from types import SimpleNamespace

import suite_path
from weir_bench import guards, trial, witness

CLEAN = {
    "engine_asked": "uring", "open": False, "in_flight": 64, "errors": {"reset": 0},
    "offered_per_s": None, "lag_p99_ns": None, "mean_ns": 64e6, "unfinished": 0, "samples": 1000,
    "cpus_allowed": 2, "server_cpus": 1, "size": 64, "seconds": 1.0, "warmup": 0.2,
    "witness": {"network": {"listen_overflows": 0, "tcp_timeouts": 0, "time_wait": 5},
                "thread_cpu_ns": [9e8, 1e7], "migrations": 1, "mhz": [[2000.0], [2010.0]]},
    "server": {"engine": "uring", "drained": True, "stats": {"overflows": 0, "enters": 9}},
    "metrics": {"ops_per_s": 1000.0, "p50_ns": 1e5, "p99_ns": 1e6},
    "cpu": {"client_share": 0.5, "server_share": 0.99, "others_share": 0.01, "steal_share": 0,
            "server_halves": [0.99, 0.98]},
}

OPEN = {"open": True, "offered_per_s": 1000.0, "lag_p99_ns": 5000}

# The guard, its severity, and the change that provokes it.
FAULTS = (
    ("engine", "invalid", {"server": {"engine": "epoll"}}),
    ("payload", "invalid", {"errors": {"corrupt": 1}}),
    ("nothing-done", "invalid", {"metrics": {"ops_per_s": 0}}),
    ("errors", "warning", {"errors": {"reset": 2}}),
    ("client-limit", "warning", {"cpu": {"client_share": 0.9, "server_share": 0.6}}),
    ("nobody-busy", "warning", {"cpu": {"client_share": 0.1, "server_share": 0.2}}),
    ("near-ceiling", "warning", {"ceiling_per_s": 1400.0}),
    ("conformance", "invalid", {"conformance": "3 replies had a wrong payload"}),
    ("little", "invalid", {"mean_ns": 20e6}),
    ("client-rests", "warning", {"mean_ns": 50e6, "carried_ns": 0}),
    ("physics", "invalid", {"size": 1 << 30}),
    ("page-cache", "invalid", {"file": {"cache": "warm", "before": 1.0, "after": 0.4}}),
    ("unfinished", "warning", {**OPEN, "unfinished": 50}),
    ("imbalance", "warning", {"server": {"stats": {"threads": 2}}}),
    ("frequency", "warning", {"witness": {"mhz": [[3000.0], [2000.0]]}}),
    ("migrations", "warning", {"witness": {"migrations": 500}}),
    ("crowded", "warning", {"server": {"stats": {"plan": "buffer-ring sqpoll"}}}),
    ("unsteady", "warning", {"cpu": {"server_halves": [0.9, 0.5]}}),
    ("listen-overflow", "warning", {"witness": {"network": {"listen_overflows": 3}}}),
    ("tcp-timeouts", "note", {"witness": {"network": {"tcp_timeouts": 1}}}),
    ("time-wait", "note", {"witness": {"network": {"time_wait": 30_000}}}),
    ("short-sends", "note", {"server": {"stats": {"short_sends": 7}}}),
    ("zero-copy-copied", "warning", {"server": {"stats": {"zero_copy_copied": 7}}}),
    ("departures-late", "warning", {**OPEN, "lag_p99_ns": 500_000}),
    ("offered", "warning", {**OPEN, "metrics": {"ops_per_s": 900.0}}),
    ("overflow", "warning", {"server": {"stats": {"overflows": 3}}}),
    ("accept-errors", "warning", {"server": {"stats": {"accept_errors": 1}}}),
    ("machine-busy", "warning", {"cpu": {"others_share": 0.2}}),
    ("seldom-read", "warning", {"cpu": {"samples_gap_s": 0.3, "window_s": 1.0}}),
    ("unrest", "warning", {"unrest": {"variant": "other", "share": 0.5}}),
    ("steal", "warning", {"cpu": {"steal_share": 0.05}}),
    ("40-ms", "warning", {"metrics": {"p99_ns": 41e6}}),
    ("no-drain", "warning", {"server": {"drained": False}}),
    ("no-buffers", "note", {"server": {"stats": {"receive_no_buffers": 7}}}),
    ("worker-punts", "note", {"server": {"stats": {"worker_punts": 7}}}),
)


def changed(trial, changes):
    trial = copy.deepcopy(trial)
    for key, value in changes.items():
        if isinstance(value, dict) and key in trial:
            trial[key] = changed(trial[key], value)
        else:
            trial[key] = value
    return trial


class Guards(unittest.TestCase):
    def test_a_clean_trial_is_left_alone(self):
        """Closed and open: no false alarm."""
        self.assertEqual(guards.check(CLEAN), [])
        self.assertEqual(guards.check(changed(CLEAN, OPEN)), [])

    def test_every_guard_speaks_for_its_fault_and_no_other_does(self):
        """The sentence is not empty and the severity is as it should be."""
        for name, severity, changes in FAULTS:
            with self.subTest(guard=name):
                said = guards.check(changed(CLEAN, changes))
                self.assertEqual([(g["guard"], g["severity"]) for g in said], [(name, severity)])
                self.assertGreater(len(said[0]["text"]), 10)

    def test_every_guard_has_a_fault_that_provokes_it(self):
        """A new guard needs a new line above."""
        self.assertEqual({name for name, _, _ in guards.GUARDS}, {name for name, _, _ in FAULTS})

    def test_a_busy_client_is_no_limit_while_the_server_is_full(self):
        """Both at their ends: the server still sets the pace."""
        full = {"cpu": {"client_share": 0.95, "server_share": 0.99}}
        self.assertEqual(guards.check(changed(CLEAN, full)), [])

    def test_a_client_is_no_limit_with_one_request_in_flight(self):
        """The two take turns, so the client's share is just its part of the round trip."""
        alone = {"in_flight": 1, "mean_ns": 1e6, "cpu": {"client_share": 0.9, "server_share": 0.3}}
        self.assertEqual(guards.check(changed(CLEAN, alone)), [])

    def test_the_40_ms_mode_is_told_from_a_queue(self):
        """Median late and nobody busy is the mode; late because a CPU is full is a queue."""
        late = {"metrics": {"p50_ns": 40e6, "p99_ns": 44e6}}
        self.assertEqual(guards.check(changed(CLEAN, late)), [])
        idle = {**late, "cpu": {"server_share": 0.01, "client_share": 0.01}}
        self.assertEqual([g["guard"] for g in guards.check(changed(CLEAN, idle))], ["40-ms"])

    def test_cold_files_must_be_cold(self):
        """Before the trial and, but for what is just being read, during it."""
        file = {"file": {"cache": "cold", "before": 0.0, "after": 0.3}}
        self.assertEqual(guards.check(changed(CLEAN, file)), [])
        for name in ("before", "after"):
            found = guards.check(changed(CLEAN, changed(file, {"file": {name: 0.6}})))
            self.assertEqual([g["guard"] for g in found], ["page-cache"], name)

    def test_few_operations_say_nothing_about_littles_law(self):
        """Those that begin or end outside of the window are too large a part of them."""
        few = {"mean_ns": 20e6, "seconds": 0.5}
        self.assertEqual(guards.check(changed(CLEAN, few)), [])

    def test_littles_law_is_exact_where_the_load_says_what_its_window_cuts(self):
        """However few operations there are, and in both directions: latencies that are too long,
        far too short, and of which some are missing."""
        short = {"seconds": 0.064, "metrics": {"ops_per_s": 2000.0}, "samples": 130,
                 "mean_ns": 25.6e6, "carried_ns": 64 * 64e6 - 130 * 25.6e6}
        self.assertEqual(guards.check(changed(CLEAN, short)), [])
        for wrong in ({"mean_ns": 40e6}, {"carried_ns": 3e9}, {"carried_ns": -2e9},
                      {"samples": 20}):
            found = guards.check(changed(CLEAN, {**short, **wrong}))
            self.assertEqual([g["guard"] for g in found], ["little"], wrong)

    def test_residency_is_that_of_the_page_cache(self):
        """A file that was read is there; what prepare_file drops is gone, where the disk allows."""
        with tempfile.NamedTemporaryFile(dir=suite_path.HERE, prefix=".residency-") as file:
            file.write(os.urandom(1 << 18))
            file.flush()
            witness.prepare_file(file.name, "warm")
            self.assertEqual(witness.residency(file.name), 1.0)
            witness.prepare_file(file.name, "cold")
            self.assertLessEqual(witness.residency(file.name), 1.0)

    def test_the_witness_sees_threads_and_network(self):
        """Of this very process: it works, so its CPU time grows."""
        look = witness.Witness([os.getpid()], {0})
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        seen = look.compare()
        self.assertGreaterEqual(seen["thread_cpu_ns"][0], 15_000_000)
        self.assertIn("listen_overflows", seen["network"])
        self.assertGreaterEqual(seen["network"]["time_wait"], 0)

    def test_a_spinning_client_is_no_limit_in_an_open_loop(self):
        """There it spins on purpose."""
        spinning = {**OPEN, "cpu": {"client_share": 1.0, "server_share": 0.4}}
        self.assertEqual(guards.check(changed(CLEAN, spinning)), [])


class Cpus(unittest.TestCase):
    """What "full" means for a server and a load that were given more than one CPU."""

    def test_who_has_fewer_threads_than_cpus_is_full_before_all_of_them_are(self):
        """A loop fills one, SQPOLL one more; who has a thread per connection, or does not say, may
        fill all; what disturbs beside the load is counted as the load's."""
        setting = SimpleNamespace(server_cpus={0, 1, 2}, client_cpus={3, 4, 5, 6})
        for stats, engine, threads, crowd, wanted in (
                ({"threads": 1}, "epoll", 1, 0, [1, 1]), ({"threads": 2}, "uring", 2, 1, [2, 3]),
                ({"threads": 9}, "uring", 9, 0, [3, 4]),
                ({"threads": 1, "plan": "buffer-ring sqpoll"}, "uring", 1, 0, [2, 1]),
                ({"threads": 1, "plan": "buffer-ring no:sqpoll"}, "uring", 1, 0, [1, 1]),
                ({"threads": 1}, "blocking", None, 0, [3, 4]), ({}, None, None, 2, [3, 4])):
            record = {"server": {"stats": stats, "engine": engine, "command": []}}
            self.assertEqual(trial.cpus_to_fill(setting, record,
                                                SimpleNamespace(threads=threads), crowd),
                             wanted, (stats, engine, threads))


if __name__ == "__main__":
    unittest.main()
