"""``python -m bgadapters check``: does a deployment keep the promises, and if not, what to change.

One mechanism for an application that is imported here and for a server that runs
already: a request with a secret header, for which `bgadapters.core.api.probe` adds tasks
to the queue that is opened for it. They report over a connection to this process, and
wait for it at two gates: so no timing has to be guessed to see who waited for whom.

    target     what is to be checked: an import path made an application
    gateways   the three ways to send a request: as a WSGI server, as an ASGI server, over HTTP
    listener   where the probe reports, and where its gates are opened
    evidence   one check, step by step, and what was seen of it
    findings   what that means, in words, and what to change
    command    the command line
"""
