"""Each guard is provoked by a trial that has just its fault, and is silent otherwise."""

import copy
import unittest

import suite_path  # noqa: F401
from weir_bench import guards

CLEAN = {
    "engine_asked": "uring", "open": False, "in_flight": 64, "errors": {"reset": 0},
    "offered_per_s": None, "lag_p99_ns": None,
    "server": {"engine": "uring", "drained": True, "stats": {"overflows": 0, "enters": 9}},
    "metrics": {"ops_per_s": 1000.0, "p50_ns": 1e5, "p99_ns": 1e6},
    "cpu": {"client_share": 0.5, "server_share": 0.99, "others_share": 0.01, "steal_share": 0},
}

OPEN = {"open": True, "offered_per_s": 1000.0, "lag_p99_ns": 5000}

# The guard, its severity, and the change that provokes it.
FAULTS = (
    ("engine", "invalid", {"server": {"engine": "epoll"}}),
    ("payload", "invalid", {"errors": {"corrupt": 1}}),
    ("nothing-done", "invalid", {"metrics": {"ops_per_s": 0}}),
    ("errors", "warning", {"errors": {"reset": 2}}),
    ("client-limit", "warning", {"cpu": {"client_share": 0.9, "server_share": 0.6}}),
    ("departures-late", "warning", {**OPEN, "lag_p99_ns": 500_000}),
    ("offered", "warning", {**OPEN, "metrics": {"ops_per_s": 900.0}}),
    ("overflow", "warning", {"server": {"stats": {"overflows": 3}}}),
    ("accept-errors", "warning", {"server": {"stats": {"accept_errors": 1}}}),
    ("machine-busy", "warning", {"cpu": {"others_share": 0.2}}),
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
        alone = {"in_flight": 1, "cpu": {"client_share": 0.9, "server_share": 0.3}}
        self.assertEqual(guards.check(changed(CLEAN, alone)), [])

    def test_the_40_ms_mode_is_told_from_a_queue(self):
        """Median late and nobody busy is the mode; late because a CPU is full is a queue."""
        late = {"metrics": {"p50_ns": 40e6, "p99_ns": 44e6}}
        self.assertEqual(guards.check(changed(CLEAN, late)), [])
        idle = {**late, "cpu": {"server_share": 0.01, "client_share": 0.01}}
        self.assertEqual([g["guard"] for g in guards.check(changed(CLEAN, idle))], ["40-ms"])

    def test_a_spinning_client_is_no_limit_in_an_open_loop(self):
        """There it spins on purpose."""
        spinning = {**OPEN, "cpu": {"client_share": 1.0, "server_share": 0.4}}
        self.assertEqual(guards.check(changed(CLEAN, spinning)), [])


if __name__ == "__main__":
    unittest.main()
