"""Run a piece of a test in a child process: to kill it, or to limit it."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable


def in_child(work: Callable[[], object]) -> None:
    """Fails where `work` raises in the child."""
    child = _start(work)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}: see its traceback above"


def kill_child_after(seconds: float, work: Callable[[], object]) -> None:
    """SIGKILL, `seconds` after the child began its work, if it has not finished by then."""
    child = _start(work)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _start(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
