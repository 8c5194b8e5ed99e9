"""The threads among which programs share out their loops: each part is done once, whoever calls and wherever."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import warnings

import pytest

from vbayes.staging.native.build import threads

WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
SHARE = ctypes.CFUNCTYPE(None, WORK, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
ASK = ctypes.CFUNCTYPE(ctypes.c_int)


def done(parts, count):
    """Which thread has done which part, and of how many; and the parts of a loop inside of each."""
    share, part, parts_of_loop = (kind(at) for kind, at in zip((SHARE, ASK, ASK), threads(), strict=True))
    found, inside = [], []

    @WORK
    def within(_):
        inside.append((part(), parts_of_loop()))

    @WORK
    def work(_):
        mine = part(), parts_of_loop()
        share(within, None, 5, count)
        found.append((*mine, threading.get_ident()))

    share(work, None, parts, count)
    assert (part(), parts_of_loop()) == (0, 1)
    assert inside == [(0, 1)] * parts, "a loop inside of another one stays whole"
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_part_is_done_once(count):
    for parts in (1, 2, 37):
        for _ in range(20):
            found = done(parts, count)
            assert sorted(found)[0][:2] == (0, parts)
            assert sorted(each[0] for each in found) == list(range(parts)) and {each[1] for each in found} == {parts}
            assert len({each[2] for each in found}) <= count


def test_callers_at_once():
    """One has the threads, the others do without."""
    wrong = []

    def call():
        for _ in range(50):
            if sorted(each[0] for each in done(7, 3)) != list(range(7)):
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own():
    done(9, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of a process that has threads
        child = os.fork()
    if not child:
        signal.alarm(60)  # the end of one that waits for threads that are not there
        os._exit(0 if sorted(each[0] for each in done(9, 3)) == list(range(9)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
