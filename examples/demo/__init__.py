"""The three applications on real servers, with their timelines: ``python -m examples.demo``.

It starts each application as its docstring says, sends requests over one keep-alive
connection, hears of every task through the setting ``on_event``, and receives the mail
in an SMTP server of its own that takes about a second for a message. It exits with 1,
and says why, if a response or the next request waited for a task, or if anything ran
before its response was complete, not at all, twice or out of order.

It needs uvicorn, gunicorn, aiosmtpd and h11 beside the three frameworks.

The order of things is not read off clocks. A task that starts tells the demonstration
and waits for it to look whether the response has arrived; see ``hook.py``.
"""
