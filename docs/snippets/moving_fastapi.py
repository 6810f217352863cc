from collections.abc import Iterator
from typing import Annotated

from bgadapters.fastapi import BackgroundTasks  # was: from fastapi import BackgroundTasks
from fastapi import Depends, FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from notifications import write_notification

engine = create_engine("sqlite:///users.sqlite3")
make_session = sessionmaker(engine)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


def get_db() -> Iterator[Session]:
    with make_session() as db:
        yield db
        db.commit()  # before the tasks start


def welcome(user_id: int):  # its key, not the user
    with make_session() as db:  # a session of its own, not the request's
        user = db.get_one(User, user_id)
        write_notification(user.email, message="welcome")


app = FastAPI()


@app.post("/users/{email}")
def create_user(email: str, tasks: BackgroundTasks, db: Annotated[Session, Depends(get_db)]):
    user = User(email=email)
    db.add(user)
    db.flush()
    tasks.add_task(welcome, user.id)
    return {"id": user.id}
