"""Why bars are missed, as far as profiles tell.

Each is found by the key of its bar, as `benchmarks.bars` and the topics name it, or by a pattern
with ``*``. What is said of the key itself goes before what is said of a pattern, and of two
patterns the longer one counts. A bar that is missed and has none says nothing.
"""

from __future__ import annotations

import sys

_A_HOP = (
    "to wake a worker and then the loop, and nothing else, takes a third of Starlette's time; the "
    "rest is 2,000 bytecodes where Starlette has 3,300. Of these 600 are asyncio's own, and no "
    "function of ours has more than about a twentieth"
)
_OWN_CONTEXT = (
    "a task here has a context of its own, in which its queue is noted. To make and free that, and "
    "the object of the task, takes a third of its 21,000 instructions; a bare `submit` has 43,000, "
    "for its future, its lock and its semaphore"
)
_OF_FLASK = (
    "an application context of Flask, made, pushed and popped around each task, takes 25,000 "
    "instructions, a bare `submit` 43,000: alone it misses the bar. What a task without one would "
    "lack (current_app, g, the teardown of sessions) nobody knows before it runs"
)
_STEPS = (
    "each task has a context of its own, in which its queue is noted, and that is most of the "
    "difference (see Limits)"
)
_TURNS = "asyncio begins no task at once before Python 3.12, so a queue costs turns of the loop"
_DEPENDENCY = (
    "a dependency, which FastAPI's own class is not, what it leaves on the exit stacks, and the "
    "asyncio task that shields the queue (see A request, in process)"
)
_WAKING = (
    "some tenths of a millisecond, for adding a task and the thread that wakes, to a view of one"
)
_ON_DISK = (
    "a transaction of SQLite, and what `add_task` does beside it: it sees that the call could be "
    "made out of a row, writes it as JSON, and makes the task that also runs here, which is some "
    "sixty calls in Python where Huey pickles one. Where tasks run meanwhile, the interpreter's "
    "lock goes to and fro between the response and the workers; they are deleted many at a time"
)
_ONE_WAIT = (
    "a response of one task waits for the disk, which is most of its time, and alone takes longer "
    "than a twentieth of an enqueue"
)
_SWITCHES = "one such task alone has whoever wants the lock wait for 5 ms each time"
_IMPORTS = "logging and typing alone take as long; what imports frameworks has them already"

_COLLECTED = (
    "Python's garbage collector looks at all that waits again and again while it becomes more, and "
    "a task is two objects to it; what peers make grows for the same reason (see Scale)"
)

REASONS: dict[str, str] = {
    "asyncio/sync/*": _A_HOP,
    "uvloop/sync/*": _A_HOP,
    "asyncio/async/*": _STEPS if sys.version_info >= (3, 12) else _TURNS,
    "uvloop/async/*": _STEPS if sys.version_info >= (3, 12) else _TURNS,
    "wsgi/10/core": _OWN_CONTEXT,
    "wsgi/10/flask": _OF_FLASK,
    "request/fastapi": _DEPENDENCY,
    "FastAPI on */nothing": _DEPENDENCY,
    "FastAPI on */anothing": _DEPENDENCY,
    "FastAPI on */p99": _WAKING,
    "Flask on */p99": _WAKING,
    "Django on */p99": _WAKING,
    "durable/*": _ON_DISK,
    "durable/dbos/*": _ONE_WAIT,
    "beside/*": _SWITCHES,
    "growth": _COLLECTED,
    "growth/peer": _COLLECTED,
    "concurrent": _COLLECTED,
    "import": _IMPORTS,
}
"""Why, by the key of a bar or a pattern of keys."""
