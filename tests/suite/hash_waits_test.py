"""What a trace says of the loop's waits, by traces as the kernel writes them."""

import os
import sys
import unittest

import suite_path

sys.path.insert(0, os.path.join(os.path.dirname(suite_path.LAUNCHER), "..", "ftp"))

import hash_waits

LOOP, HELPER, CLIENT, OTHER, IDLE = 10, 11, 20, 30, 0


def line(thread, us, text):
    processor = "000" if thread == CLIENT else "001"
    return f"            name-{thread:<7} [{processor}] d..2. 13457.{us:06}: {text}\n"


def woken(us):
    return line(CLIENT, us, f"sched_waking: comm=weir pid={LOOP} prio=120 target_cpu=001")


def switch(us, before, after, state="S"):
    return line(before, us, f"sched_switch: prev_comm=weir prev_pid={before} prev_prio=120 "
                            f"prev_state={state} ==> next_comm=weir next_pid={after} next_prio=120")


def told(us):
    return line(CLIENT, us, "ipi_send_cpu: cpu=1 callsite=wakeup_preempt callback=0x0")


def took(us):
    return line(HELPER, us, "reschedule_entry: vector=253")


class Waits(unittest.TestCase):
    def waits(self, *lines):
        processor = hash_waits.Processor(LOOP, {HELPER})
        for event in hash_waits.events_of(lines):
            processor.take(*event)
        return processor.waits

    def test_the_hash_has_what_the_scheduler_gives_it(self):
        """The processor looked at once, and went on with the hash."""
        self.assertEqual(self.waits(switch(0, LOOP, HELPER), woken(100), told(101), took(120),
                                    switch(4100, HELPER, LOOP, "R")), [(4000, "hash")])

    def test_unmapping_is_told_from_the_rest_of_the_hash(self):
        """Only while the call runs: the same wait behind it is the hash's."""
        enter = line(HELPER, 50, "sys_munmap(addr: 0x7fe0d59f8000, len: 0x01006040)")
        leave = line(HELPER, 60, "sys_munmap -> 0x0")
        begin, wait = switch(0, LOOP, HELPER), (woken(100), switch(1300, HELPER, LOOP, "R+"))
        self.assertEqual(self.waits(begin, enter, *wait), [(1200, "unmapping")])
        self.assertEqual(self.waits(begin, enter, leave, *wait), [(1200, "hash")])

    def test_a_processor_that_takes_no_interrupt_is_the_machine(self):
        """It was told to look again, and did so when the wait was nearly over."""
        self.assertEqual(self.waits(switch(0, LOOP, HELPER), woken(100), told(101), took(11000),
                                    switch(11100, HELPER, LOOP, "R")), [(11000, "machine")])

    def test_an_idle_processor_is_the_machine(self):
        """Also where the switch away from the idle task is not traced."""
        begin, end = switch(0, LOOP, IDLE), line(LOOP, 4100, "sys_io_uring_enter -> 0x1")
        self.assertEqual(self.waits(begin, woken(100), end), [(4000, "machine")])
        self.assertEqual(self.waits(begin, woken(100), switch(4100, IDLE, LOOP, "R")),
                         [(4000, "machine")])

    def test_who_has_most_of_a_wait_is_its_cause(self):
        """Here another program, that the loop was put aside for, and then the hash for less."""
        self.assertEqual(self.waits(switch(0, HELPER, LOOP), switch(100, LOOP, OTHER, "R"),
                                    switch(2000, OTHER, HELPER), switch(2500, HELPER, LOOP, "R")),
                         [(2400, "others")])

    def test_a_loop_that_runs_does_not_wait(self):
        """It is woken while it runs, and sleeps of its own accord."""
        self.assertEqual(self.waits(switch(0, HELPER, LOOP), woken(10), switch(20, LOOP, HELPER)),
                         [])

    def test_the_loop_is_the_thread_that_is_woken_most(self):
        """The helpers are woken, too."""
        lines = [woken(10).replace(f"pid={LOOP}", f"pid={HELPER}"), switch(20, IDLE, HELPER),
                 woken(100), switch(130, HELPER, LOOP, "R"), switch(140, LOOP, HELPER), woken(200),
                 switch(250, HELPER, LOOP, "R")]
        self.assertEqual(hash_waits.waits_of(list(hash_waits.events_of(lines)), [HELPER, LOOP]),
                         [(30, "hash"), (50, "hash")])


if __name__ == "__main__":
    unittest.main()
