"""A warning where a task is given a session of its request, or an object of one."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

import pytest

import bgadapters
from bgadapters import BackgroundTasks, RequestScopedWarning
from bgadapters.adapters import LiveTasks
from bgadapters.core import host

pytest.importorskip("sqlalchemy")

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)

    def greet(self) -> None: ...


class OwnSession(Session): ...


def task(*args: object, **kwargs: object) -> None: ...


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with OwnSession(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture
def user(session: Session) -> User:
    user = User(id=1)
    session.add(user)
    return user


@pytest.fixture
def open_queue(queue: BackgroundTasks) -> Iterator[BackgroundTasks]:
    yield queue
    queue.close(LookupError())


Add = Callable[[BackgroundTasks, Session, User], None]
WARNED: dict[str, Add] = {
    "session": lambda q, s, _: q.add_task(task, 1, s),
    "async session": lambda q, _, __: q.add_task(task, AsyncSession()),
    "by keyword": lambda q, s, _: q.add_task(task, db=s),
    "object": lambda q, _, u: q.add_task(task, u),
    "list": lambda q, _, u: q.add_task(task, [u, u]),
    "set": lambda q, _, u: q.add_task(task, users={u}),
    "method of a session": lambda q, s, _: q.add_task(s.commit),
    "method of an object": lambda q, _, u: q.add_task(u.greet),
    "partial": lambda q, _, u: q.add_task(partial(partial(task, user=u))),
    "with options": lambda q, _, u: q.options(name="x").add_task(task, u),
}


@pytest.mark.parametrize("kind", WARNED)
def test_what_the_request_closes_is_warned_of_at_the_line_that_adds_it(
    kind: str, open_queue: BackgroundTasks, session: Session, user: User
) -> None:
    with pytest.warns(RequestScopedWarning) as caught:
        WARNED[kind](open_queue, session, user)
    (warning,) = caught
    assert warning.filename == __file__
    assert "Pass values, the primary key for one, and open a session" in str(warning.message)
    assert len(open_queue) == 1


def test_the_message_names_the_task_and_what_it_got(
    open_queue: BackgroundTasks, session: Session, user: User
) -> None:
    with pytest.warns(RequestScopedWarning) as caught:
        open_queue.add_task(task, session, user)
    first, second = (str(warning.message) for warning in caught)
    assert first.startswith("the task tests.core.test_sessions.task is given the session OwnSess")
    assert "is given an object of User that belongs to a session. The request closes" in second


def test_it_is_the_line_of_the_view_whoever_is_asked(
    open_queue: BackgroundTasks, session: Session
) -> None:
    with pytest.warns(RequestScopedWarning) as caught, open_queue:
        bgadapters.add_task(task, session)
        live = LiveTasks(runtime=open_queue.runtime)
        live.add_task(task, session)
        live.end()
    assert [warning.filename for warning in caught] == [__file__] * 2
    assert open_queue.runtime.drain() == []


def test_a_line_is_named_once(open_queue: BackgroundTasks, session: Session) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", RequestScopedWarning)
        for _ in range(3):
            open_queue.add_task(task, session)
    assert len(caught) == 1


def test_what_no_request_closes_is_nobody_s_affair(
    open_queue: BackgroundTasks, session: Session, user: User
) -> None:
    session.flush()
    session.expunge(user)
    factory = sessionmaker(session.get_bind())
    for value in (
        User(id=2),  # belongs to no session yet
        user,  # nor does this one any more
        [],
        [1, user],
        factory,
        scoped_session(factory),  # makes a session for each thread
        User,
        object(),
        mock.Mock(spec=Session),
        print,
    ):
        open_queue.add_task(task, value)
        open_queue.add_task(task, value=value)
    open_queue.add_task(list[int]().append, 1)
    open_queue.add_task(sessionmaker)


def test_an_object_that_cannot_be_asked_is_let_alone(
    open_queue: BackgroundTasks, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlalchemy.orm.object_session", mock.Mock(side_effect=RuntimeError))
    open_queue.add_task(task, user)
    assert len(open_queue) == 1


def test_a_module_that_is_being_imported_is_not_asked(
    open_queue: BackgroundTasks, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another thread: what is classified then would stay so."""

    class Other(Session): ...

    with monkeypatch.context() as patched:
        patched.setattr(host, "imported", lambda _: None)
        open_queue.add_task(task, Other())
    with pytest.warns(RequestScopedWarning):
        open_queue.add_task(task, Other())


def test_sqlalchemy_is_not_imported_for_it() -> None:
    script = (
        "import sys, bgadapters\n"
        "with bgadapters.BackgroundTasks() as tasks: tasks.add_task(print, object())\n"
        "bgadapters.drain()\n"
        "assert 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_without_its_asyncio_there_are_sessions_too() -> None:
    script = (
        "import sys, warnings, bgadapters\n"
        "from sqlalchemy.orm import Session\n"
        "assert 'sqlalchemy.ext.asyncio' not in sys.modules\n"
        "warnings.simplefilter('error')\n"
        "try: bgadapters.BackgroundTasks().add_task(print, Session())\n"
        "except bgadapters.RequestScopedWarning: print('warned')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout == b"warned\n"


def test_where_nobody_has_imported_sqlalchemy_nobody_looks_for_its_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "sqlalchemy.orm", raising=False)
    said: list[object] = []
    with BackgroundTasks() as tasks:
        tasks.add_task(print, "x", file=None, end="")
        said.extend(tasks.batch.waiting)
        tasks.discard(ValueError())
    assert len(said) == 1
