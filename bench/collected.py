"""`progress-gateway serve`, which also runs a full garbage collection for each line on stdin and tells its length.

    python -m bench.collected <arguments of progress-gateway>

The answer: `collected <milliseconds of CPU> <objects it looks at> <full collections that ran by themselves>`.
The collection runs in a thread, but holds the interpreter's lock, so that the event loop stands still, as in one of its
own. Needs stdin and stdout for itself; the gateway logs to stderr.
"""

import gc
import sys
import threading
import time

from gateway.__main__ import main

by_themselves = 0


def _count(phase: str, info: dict[str, int]) -> None:
    global by_themselves
    if phase == "start" and info["generation"] == 2 and threading.current_thread() is threading.main_thread():
        by_themselves += 1


def _answer() -> None:
    for _ in sys.stdin:
        tracked = len(gc.get_objects())
        began = time.thread_time()  # other processes, too, use the machine
        gc.collect()
        took_ms = (time.thread_time() - began) * 1_000
        print(f"collected {took_ms:.1f} {tracked} {by_themselves}", flush=True)


if __name__ == "__main__":
    gc.callbacks.append(_count)
    threading.Thread(target=_answer, daemon=True).start()
    main()
