import sqlite3
from contextlib import closing

from bgadapters import current_task, task_options


def connect() -> sqlite3.Connection:
    return sqlite3.connect("accounts.sqlite3")


@task_options(durable=True)
def credit(account: str, amount: int):
    with closing(connect()) as db, db:  # one transaction
        known = db.execute("insert or ignore into credited values (?)", [current_task().id])
        if known.rowcount:  # else an earlier run has come so far
            db.execute(
                "update accounts set balance = balance + ? where name = ?", [amount, account]
            )
