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
    "each task has a context and an asyncio task of its own: to make and run that one, begun at "
    "once, takes twice as long as Starlette takes to run a task (0.9 and 0.45 us); the rest is "
    "what a queue costs, shared by its tasks (see Limits)"
)
_TURNS = "asyncio begins no task at once before Python 3.12, so a queue costs turns of the loop"
_DEPENDENCY = (
    "of what a request takes longer, three tenths are an empty dependency, which FastAPI's own "
    "class is not; opening the queue and three entries on exit stacks are about as much, add_task "
    "and an asyncio task a tenth each, and the way from the release to the end a fifth: none of "
    "it stands out"
)
_UNUSED = (
    "one coroutine around the application and one around each of two sends, which alone sees that "
    "a client has left; a queue to add to, and two changes of the context variable that names it"
)
_UNUSED_FLASK = (
    "what cannot be left out amounts to the bar by itself: an empty receiver of the signal that a "
    "request begins takes 3.6 % of a request, to make the queue the current one and back for the "
    "call, each of two steps of the body and its close 2 %, a body that is told of its close 1.2 % "
    "and the object of a queue 1 %. The signal alone sees each request, since others may have "
    "kept the application without our middleware"
)
_UNUSED_DJANGO = (
    "some forty calls in Python, which make 800 bytecodes: no function has a tenth of them. They "
    "find whose the queue of this request is, put it in its place, and see what kind of response "
    "the view has made and who closes it"
)
_SENT_BY_THE_LOOP = (
    "in a trace of the scheduler the slowest requests wait for the loop's own work: it gives tasks "
    "to the processes and reads what comes back. Some of that wait is there without a task too. "
    "The executor has threads for it, and takes the process more: 1.29 ms and 18 switches of "
    "thread a request, ours 1.16 and 7"
)
_SENDING = (
    "a round's p99 is the slowest but one of 120 requests, and the rounds lie on both sides of the "
    "bar. To send after the response takes the process longer than the call in the view: with "
    "Celery on gthread 2.7 ms of processor time and 11 switches of thread a request, not 1.8 and 5"
)
_WAKING = (
    "a task takes 0.4 ms of processor time beside the 0.5 of the view, with FastAPI's own as well; "
    "a fourth of it is spent before the response is out, which is the excess of most requests. Of "
    "the slowest, some come as the thread is awake that watches the lock, and wait for it and then "
    "for a processor to wake; none waits for a task that wakes, in a trace of the scheduler"
)
_ON_DISK = (
    "a transaction of SQLite, and what `add_task` does beside it: it sees that the call could be "
    "made out of a row, writes it as JSON, and makes the row, which is some twenty-five calls in "
    "Python. Tasks are deleted many at a time"
)
_LOCK_GIVEN_UP = (
    "SQLite works without the interpreter's lock. So each response with one task wakes a worker, "
    "which takes the lock, and waits for it: threads change three times a response, and once in "
    "four responses where all is in memory"
)
_ONE_WAIT = (
    "a response of one task waits for the disk, which is most of its time, and alone takes longer "
    "than a twentieth of an enqueue"
)
_ANOTHER_OBJECT = (
    "a response of WSGI is begun through an object that can hold it back until its tasks are kept: "
    "twelve calls in Python beside some 260"
)
_SWITCHES = (
    "at this rate tasks come one at a time, so FastAPI's own are hardly in the way either: one "
    "alone has whoever wants the lock wait for 5 ms each time"
)
_ONE_AT_A_TIME = (
    "two thirds of it are there without those that sleep, beside one task at a time that computes, "
    "which is the least there can be; and FastAPI's own are far less in the way than without them "
    "(see the table)"
)
_FULL_OF_SLEEPERS = (
    "Flask-Executor's six workers are full of tasks that sleep, of which more come than they can "
    "run. So it begins only some ten a second of those that compute, and does the rest later: when "
    "the last request was answered it had run three tenths of all tasks"
)
_IMPORTS = "logging and typing alone take as long; what imports frameworks has them already"

_COLLECTED = (
    "the growth is Python's garbage collector, which looks at all that waits in six full "
    "collections on the way to 1,000,000: without it the growth is 1.05. A task is two objects to "
    "it, itself and its context; Starlette's grow more (see Scale)"
)
_AT_ONCE = (
    "a response that waits holds 29 objects of Python's garbage collector, 15 with Starlette's. "
    "What 10,000 of them hold has it look at all objects of the process once, which takes nearly "
    "half of the time; without the collector the growth is 1.1, as is Starlette's"
)

REASONS: dict[str, str] = {
    "asyncio/sync/*": _A_HOP,
    "uvloop/sync/*": _A_HOP,
    "asyncio/async/*": _STEPS if sys.version_info >= (3, 12) else _TURNS,
    "uvloop/async/*": _STEPS if sys.version_info >= (3, 12) else _TURNS,
    "wsgi/10/core": _OWN_CONTEXT,
    "wsgi/10/flask": _OF_FLASK,
    "request/fastapi": _DEPENDENCY if sys.version_info >= (3, 12) else f"{_DEPENDENCY}; {_TURNS}",
    "unused/fastapi": _UNUSED,
    "unused/flask": _UNUSED_FLASK,
    "unused/django": _UNUSED_DJANGO,
    "FastAPI on */nothing": _DEPENDENCY,
    "FastAPI on */anothing": _DEPENDENCY,
    "FastAPI on */p99": _WAKING,
    "Flask on */p99": _WAKING,
    "Django on */p99": _WAKING,
    "durable/*": _ON_DISK,
    "durable/NORMAL/run/1": _LOCK_GIVEN_UP,
    "durable/dbos/*": _ONE_WAIT,
    "durable/without/flask": _ANOTHER_OBJECT,
    "engines/*": _SENDING,
    "engines/Processes*": _SENT_BY_THE_LOOP,
    "beside/*12 a second*": _SWITCHES,
    "beside/*that sleep, of that under FastAPI's BackgroundTasks": _ONE_AT_A_TIME,
    "beside/*that sleep, of that under Flask-Executor": _FULL_OF_SLEEPERS,
    "growth": _COLLECTED,
    "growth/peer": _COLLECTED,
    "concurrent": _AT_ONCE,
    "import": _IMPORTS,
}
"""Why, by the key of a bar or a pattern of keys."""
