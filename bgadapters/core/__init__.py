"""What a task, a batch, a run and a drain are. Knows no framework.

The folders are layers, from the top: ``api``, ``app``, ``process``, ``drivers``, ``model``,
``host``. Each may import those below it, and none above.
"""
