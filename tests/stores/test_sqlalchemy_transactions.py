"""What is written with the commit of a session, by no connection before that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from bgadapters.sqlalchemy_sessions import Commits, begun


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    with Session(engine) as session:
        session.execute(text("CREATE TABLE written (what text)"))
        session.commit()
        yield session
    engine.dispose()


def add(session: Session, what: str) -> None:
    def write(there: Session) -> None:
        there.connection().execute(text(f"INSERT INTO written VALUES ('{what}')"))

    Commits.of(session).write_with(begun(session), write)


def written(session: Session) -> list[str]:
    return sorted(session.scalars(text("SELECT what FROM written")))


def test_it_is_written_by_the_commit(session: Session) -> None:
    add(session, "one")
    add(session, "two")
    assert written(session) == []
    session.commit()
    assert written(session) == ["one", "two"]
    session.commit()
    assert written(session) == ["one", "two"]


def test_a_rollback_leaves_nothing_for_the_next_commit(session: Session) -> None:
    add(session, "one")
    session.rollback()
    session.commit()
    assert written(session) == []


def test_what_a_savepoint_has_written_is_written_once_more_if_that_is_undone(
    session: Session,
) -> None:
    add(session, "one")
    outer = session.begin_nested()
    add(session, "undone")
    with session.begin_nested():
        pass  # it cannot be told from the commit of what is around it
    outer.rollback()
    session.commit()
    assert written(session) == ["one"]


def test_a_commit_ends_savepoints_that_are_open(session: Session) -> None:
    with session.begin():
        add(session, "one")
        session.begin_nested()
        add(session, "two")
        session.begin_nested()
        add(session, "three")
    assert written(session) == ["one", "three", "two"]


def test_what_cannot_be_written_has_each_commit_fail(session: Session) -> None:
    def fail(_: Session) -> None:
        raise LookupError

    add(session, "one")
    Commits.of(session).write_with(begun(session), fail)
    for _ in range(2):
        with pytest.raises(LookupError):
            session.commit()
    session.rollback()
    assert written(session) == []
