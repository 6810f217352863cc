from collections.abc import Iterator
from typing import Annotated

from bgadapters import task_options
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import Depends, FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from notifications import write_notification

URL = "sqlite+pysqlite:///shop.db"  # or postgresql+psycopg://...

app = FastAPI()
init_app(app, store=URL)
engine = create_engine(URL)


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    email: Mapped[str] = mapped_column(primary_key=True)


Base.metadata.create_all(engine)


def get_session() -> Iterator[Session]:
    with Session(engine) as session, session.begin():
        yield session


SessionOfView = Annotated[Session, Depends(get_session, scope="function")]


@task_options(retries=3)
def welcome(email: str):
    write_notification(email, message="welcome")


@app.post("/sign-up/{email}")
def sign_up(email: str, session: SessionOfView, background_tasks: BackgroundTasks):
    session.add(Account(email=email))
    background_tasks.options(durable=True, session=session).add_task(welcome, email)
    return {"message": "Signed up"}
