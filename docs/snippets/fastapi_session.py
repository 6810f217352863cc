import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated

from bgadapters.fastapi import BackgroundTasks
from fastapi import Depends, FastAPI

from notifications import write_notification

app = FastAPI()


def connect() -> sqlite3.Connection:
    return sqlite3.connect("accounts.sqlite3", check_same_thread=False)


def get_db() -> Iterator[sqlite3.Connection]:
    with closing(connect()) as db:
        db.execute("create table if not exists accounts (email text)")
        yield db
        db.commit()  # before the tasks start


def welcome(email: str):
    with closing(connect()) as db:  # a session of its own: the request's is closed
        (known,) = db.execute("select count(*) from accounts where email = ?", [email]).fetchone()
    write_notification(email, message=f"{known} account")


@app.post("/sign-up/{email}")
def sign_up(email: str, db: Annotated[sqlite3.Connection, Depends(get_db)], tasks: BackgroundTasks):
    db.execute("insert into accounts values (?)", [email])
    tasks.add_task(welcome, email)
    return {"message": "Signed up"}
