"""Makes the suite's modules importable; the tests import this first."""

import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
SUITE = os.path.normpath(os.path.join(HERE, "../../bench/suite"))
LAUNCHER = os.path.join(SUITE, "weir-bench")

sys.path.insert(0, SUITE)
sys.dont_write_bytecode = sys.pycache_prefix is None
