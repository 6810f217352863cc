from collections.abc import Iterator
from contextlib import closing
from sqlite3 import Connection, connect
from typing import Annotated

from fastapi import Depends


def get_db() -> Iterator[Connection]:
    with closing(connect("accounts.sqlite3", check_same_thread=False)) as db:
        yield db
        db.commit()  # before the response, and so before the client has its answer


Database = Annotated[Connection, Depends(get_db, scope="function")]
