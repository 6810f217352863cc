"""The store itself."""

from __future__ import annotations

import _thread
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    MetaData,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from bgadapters.adapters import (
    Batch,
    Change,
    Precondition,
    Renewal,
    Row,
    SettingsError,
    State,
    Store,
    StoreUnavailableError,
)
from bgadapters.sqlalchemy_sessions import Commits, begun, commit_of
from bgadapters.stores.sqlalchemy.engines import (
    check_version,
    engine_of,
    options_of,
    told_as_unavailable,
    was_undone,
)
from bgadapters.stores.sqlalchemy.sessions import SessionRows
from bgadapters.stores.sqlalchemy.tables import DEFAULT, VERSION, make_tables, now

T = TypeVar("T")

_DAY = 86_400.0  # for so long an owner is remembered that has ended
_PART = 500  # so many ids are named in one statement
_ATTEMPTS = 3  # to do what the database has undone: a connection that it has closed, a deadlock
_AT_A_TIME = 8  # so many take over at the same time without being in each other's way
_TRIES = 20  # to make the tables, beside others who do


class SQLAlchemyStore(Store):
    """Keeps durable tasks in a database, for the processes of one machine or several.

    Its owners have leases, by the database's clock. A process that stands still for longer than
    its lease, or does not reach the database, loses its tasks to others. What it has done by then
    may be done twice: that is refused when it tells of it, and named in the log.

    Args:
        url_or_engine: a URL of SQLAlchemy with a driver that is not asynchronous, or an engine. Of
            an engine it takes the way to connect, with a pool of its own. PostgreSQL, MySQL from
            8.0.1, MariaDB from 10.6 and files of SQLite are known. A URL may have the other two
            arguments among its parameters: ``?lease=10&table=tasks``.
        table: the name of the table of tasks, and how the names of two others begin. Default:
            ``bgadapters_tasks``.
        lease: seconds after which the tasks of a process are taken over that is not heard of. It
            is heard of three times in that time. Default: 30.

    Attributes:
        metadata: the tables, for Alembic; see also `metadata_for`.

    Raises:
        SettingsError: one of these is none that it could work with.
    """

    def __init__(
        self, url_or_engine: str | URL | Engine, table: str = DEFAULT, lease: float = 30.0
    ) -> None:
        url_or_engine, given = options_of(url_or_engine, {"table": table, "lease": lease})
        table, lease = _table(given["table"]), _seconds(given["lease"])
        self.metadata = MetaData()
        self._lease = lease
        self._engine = engine_of(url_or_engine)
        self._tasks, self._owners, self._schema = make_tables(table, self.metadata)
        self._session_rows = SessionRows(self._tasks, self._engine)
        self._owner = ""
        self._renewal: Renewal | None = None
        self._renewed_at = 0.0  # as time.monotonic tells it
        self._has_lost_lease = False
        self._lock = _thread.RLock()  # which gevent leaves alone
        self._uncommitted: set[str] = set()  # ids in transactions of sessions; guarded by _lock
        self._deferred: list[Change] = []  # of those, until these have ended

    # An owner's life.

    def open(self, owner: str) -> None:
        """See `Store`."""
        self._owner = owner
        with told_as_unavailable():
            self._make_tables()
            self._in_transaction(self._note_version)
            self._in_transaction(self._begin_to_live)
        self._renewal = Renewal(self._renew, self._lease / 3)
        self._renewal.start()

    def _make_tables(self) -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._engine.begin() as connection:
                    check_version(connection)
                    self.metadata.create_all(connection)
                return
            except DBAPIError:  # another process may just have made one of them
                if not tries_left:
                    raise

    def _note_version(self, connection: Connection) -> None:
        version = self._schema.c.version
        found = connection.scalar(select(func.max(version)))
        if found is None:
            try:
                with connection.begin_nested():
                    connection.execute(insert(self._schema).values(version=VERSION))
            except IntegrityError:
                found = VERSION  # another process has just noted its own, which we see next time
        elif found != VERSION:
            raise SettingsError(
                f"the table {self._tasks.name} is of version {found}, and this bgadapters knows "
                f"version {VERSION}: install the bgadapters that made it, or name another table"
            )

    def _begin_to_live(self, connection: Connection) -> None:
        self._extend_lease(connection)
        tasks, owners = self._tasks, self._owners
        # Of an owner that came back after it was forgotten, and then has ended.
        known = select(owners.c.id)
        lost = select(tasks.c.id).where(tasks.c.owner.is_not(None), tasks.c.owner.not_in(known))
        for part in _parts(connection.scalars(lost).all()):
            connection.execute(update(tasks).where(tasks.c.id.in_(part)).values(owner=None))
        has_tasks = exists().where(tasks.c.owner == owners.c.id)
        old = select(owners.c.id).where(owners.c.expires < now() - _DAY, ~has_tasks)
        for part in _parts(connection.scalars(old).all()):
            connection.execute(delete(owners).where(owners.c.id.in_(part)))

    def close(self) -> None:
        """See `Store`."""
        if self._renewal is not None:
            self._renewal.stop()
            self._renewal = None
        try:
            self.write((), ())
            with told_as_unavailable():
                self._in_transaction(self._end_to_live)
        finally:
            self._engine.dispose()

    def _end_to_live(self, connection: Connection) -> None:
        tasks, owners = self._tasks, self._owners
        own = and_(tasks.c.owner == self._owner, tasks.c.state == "waiting")
        # MySQL would wait for what a session has written and not committed.
        free = select(tasks.c.id).where(own).with_for_update(skip_locked=True)
        for part in _parts(connection.scalars(free).all()):
            released = update(tasks).where(tasks.c.id.in_(part))
            connection.execute(released.values(owner=None, has_begun=0))
        # What a session commits after this is that of an owner that has ended.
        connection.execute(update(owners).where(owners.c.id == self._owner).values(expires=0.0))

    def forget_connections(self) -> None:
        """See `Store`."""
        self._renewal = None
        self._owner = ""
        self._lock = _thread.RLock()
        self._uncommitted = set()
        self._deferred = []
        self._has_lost_lease = False
        # SQLite notes in memory which locks it has: a child has to close what it has inherited.
        self._engine.dispose(close=self._engine.dialect.name == "sqlite")

    def _renew(self) -> None:
        with told_as_unavailable():
            self._in_transaction(self._extend_lease)

    def _extend_lease(self, connection: Connection) -> None:
        began, owners = time.monotonic(), self._owners
        own = owners.c.id == self._owner
        until = now() + self._lease
        extend = update(owners).values(expires=until)
        if not connection.execute(extend.where(own, owners.c.expires > now())).rowcount:
            if self._renewed_at:
                self._has_lost_lease = True
            if not connection.execute(extend.where(own)).rowcount:
                values = {"id": self._owner, "expires": until}
                connection.execute(insert(owners).values(values))
        self._renewed_at = began

    def _renew_if_late(self) -> None:
        """Before anything is written: this process may have stood still."""
        if time.monotonic() - self._renewed_at > self._lease * 0.7:
            self._renew()

    # Tasks.

    def write(self, rows: Sequence[Row], changes: Sequence[Change]) -> Sequence[str]:
        """See `Store`."""
        self._renew_if_late()
        with self._lock:
            uncommitted = set(self._uncommitted)
        known = [*self._deferred, *changes]
        due = [change for change in known if change.id not in uncommitted]
        later = [change for change in known if change.id in uncommitted]
        lost: list[str] = []
        if rows or due:

            def write(connection: Connection) -> list[str]:
                if rows:
                    connection.execute(insert(self._tasks), list(self._values(rows)))
                else:
                    self._hurry(connection)
                return self._changed(connection, due)

            with told_as_unavailable():
                lost = self._in_transaction(write)
        self._deferred = later
        return lost

    def _values(self, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        for row in rows:
            digest = None if row.key is None else sha256(row.key.encode()).hexdigest()
            yield {
                **row._asdict(),
                "is_recovered": int(row.is_recovered),
                "owner": self._owner,
                "key_digest": digest,
            }

    def _hurry(self, connection: Connection) -> None:
        """What this transaction writes need not survive a loss of power."""
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")

    def _changed(self, connection: Connection, changes: Sequence[Change]) -> list[str]:
        """Make changes; return the ids of those that have not counted."""
        missed: list[str] = []
        for is_deletion, group in groupby(changes, lambda change: change.kind == "delete"):
            if is_deletion:
                missed += self._deleted(connection, [change.id for change in group])
            else:
                missed += [each.id for each in group if not self._change(connection, each)]
        if not missed or self._has_lost_lease:
            return missed
        # They are another owner's, or a rollback has taken them, which is no loss.
        return [id_ for part in _parts(missed) for id_ in self._that_are_there(connection, part)]

    def _that_are_there(self, connection: Connection, ids: Sequence[str]) -> Iterable[str]:
        return connection.scalars(select(self._tasks.c.id).where(self._tasks.c.id.in_(ids)))

    def _deleted(self, connection: Connection, ids: Sequence[str]) -> list[str]:
        """Delete tasks of this owner; return those of which there may have been none."""
        tasks, missed = self._tasks, list[str]()
        for part in _parts(ids):
            own = and_(tasks.c.id.in_(part), tasks.c.owner == self._owner)
            if connection.execute(delete(tasks).where(own)).rowcount < len(part):
                missed += part
        return missed

    def _change(self, connection: Connection, change: Change) -> bool:
        """Make a change; tell whether the task was this owner's."""
        tasks = self._tasks
        if change.kind == "claim":
            return self._claim(connection, change)
        values: dict[str, Any] = {"has_begun": 0}
        if change.kind == "again":
            values |= {"attempt": change.attempt, "due": change.due}
        elif change.kind == "free":
            values |= {"owner": None}
        else:
            failed = {"state": "failed", "failure": change.failure, "ended": time.time()}
            values |= {"owner": None, "attempt": change.attempt, **failed}
        own = and_(tasks.c.id == change.id, tasks.c.owner == self._owner)
        return bool(connection.execute(update(tasks).where(own).values(values)).rowcount)

    def _claim(self, connection: Connection, change: Change) -> bool:
        tasks = self._tasks
        self._lock_without_row_locks(connection)
        digest = connection.scalar(select(tasks.c.key_digest).where(tasks.c.id == change.id))
        if digest is None:
            return False
        # All of that key are locked, in one order: of two claims at a time one sees the other.
        same = and_(tasks.c.key_digest == digest, tasks.c.state == "waiting")
        found = connection.execute(
            select(tasks.c.id, tasks.c.owner, tasks.c.claimed, tasks.c.has_begun)
            .where(same)
            .order_by(tasks.c.id)
            .with_for_update()
        ).all()
        if not any(each.id == change.id and each.owner == self._owner for each in found):
            return False
        others = [
            each.id
            for each in found
            if each.id != change.id and each.claimed and not each.has_begun
        ]
        goes = [change.id] if others and change.keeps else others
        for part in _parts(goes):
            connection.execute(delete(tasks).where(tasks.c.id.in_(part)))
        connection.execute(update(tasks).where(tasks.c.id == change.id).values(claimed=1))
        return True

    def begin(self, task_id: str) -> bool:
        """See `Store`."""
        tasks = self._tasks
        self._renew_if_late()

        def begin(connection: Connection) -> bool:
            self._hurry(connection)
            own = and_(tasks.c.id == task_id, tasks.c.owner == self._owner)
            return bool(connection.execute(update(tasks).where(own).values(has_begun=1)).rowcount)

        with told_as_unavailable():
            return self._in_transaction(begin)

    def take_over(self, limit: int) -> list[Row]:
        """See `Store`. Only a queue with more tasks than the limit is divided."""
        if self._deferred:
            self.write((), ())
        self._renew_if_late()
        with told_as_unavailable():
            return self._in_transaction(lambda connection: self._taken(connection, limit))

    def _taken(self, connection: Connection, limit: int) -> list[Row]:
        tasks = self._tasks
        self._lock_without_row_locks(connection)
        has_tasks = exists().where(tasks.c.owner == self._owners.c.id)
        ended = connection.scalars(self._ended_owners().where(has_tasks)).all()
        queues = self._queues_left(connection, ended, limit)
        if not queues:
            return []
        found = connection.execute(
            select(tasks)
            .where(_is_due(tasks, ended), tasks.c.queue_id.in_(queues))
            .order_by(tasks.c.position)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        for part in _parts([each.id for each in found]):
            taken = update(tasks).where(tasks.c.id.in_(part))
            crashes = tasks.c.crashes + tasks.c.has_begun
            connection.execute(
                taken.values(owner=self._owner, crashes=crashes, has_begun=0, is_recovered=1)
            )
        place = {queue_id: number for number, queue_id in enumerate(queues)}
        return [
            _row(each)._replace(crashes=each.crashes + each.has_begun, is_recovered=True)
            for each in sorted(found, key=lambda each: (place[each.queue_id], each.position))
        ]

    def _lock_without_row_locks(self, connection: Connection) -> None:
        """Where there are no locks of rows, let nobody else write before this transaction ends."""
        if connection.dialect.name == "sqlite":
            self._extend_lease(connection)

    def _ended_owners(self) -> Select[Any]:
        owners = self._owners
        return select(owners.c.id).where(owners.c.expires <= now())

    def _queues_left(self, connection: Connection, ended: Sequence[str], limit: int) -> list[str]:
        """Return those that nobody else takes now, the oldest first, with so many tasks at most.

        Whoever has locked the first task of a queue takes all of it. Each step is simple enough
        to be quick whatever a database has noted of how its tables are filled.
        """
        tasks = self._tasks
        oldest = connection.scalars(
            select(tasks.c.queue_id)
            .where(_is_due(tasks, ended))
            .order_by(tasks.c.added, tasks.c.queue_id, tasks.c.position)
            .limit(limit * _AT_A_TIME)
        ).all()
        chosen: list[str] = []
        for part in _parts(list(dict.fromkeys(oldest)), min(limit, _PART)):
            for queue_id, size in self._locked(connection, ended, part):
                limit -= size
                if limit < 0:
                    return chosen or [queue_id]
                chosen.append(queue_id)
        return chosen

    def _locked(
        self, connection: Connection, ended: Sequence[str], queues: Sequence[str]
    ) -> list[tuple[str, int]]:
        """Lock the first tasks of queues; return those queues, with how many tasks they have."""
        tasks = self._tasks
        found: dict[str, list[str]] = {queue_id: [] for queue_id in queues}
        rows = connection.execute(
            select(tasks.c.queue_id, tasks.c.id)
            .where(_is_due(tasks, ended), tasks.c.queue_id.in_(queues))
            .order_by(tasks.c.position)
        )
        for queue_id, id_ in rows:
            found[queue_id].append(id_)
        first = [ids[0] for ids in found.values() if ids]
        locked = set(
            connection.scalars(
                select(tasks.c.id)
                .where(_is_due(tasks, ended), tasks.c.id.in_(first))
                .with_for_update(skip_locked=True)
            )
        )
        return [(queue_id, len(ids)) for queue_id, ids in found.items() if locked & set(ids[:1])]

    # In a session's transaction.

    def shares_transaction(self, session: Any) -> bool:
        """See `Store`: whether there is a session.

        Raises:
            TypeError: it is none of SQLAlchemy, or of another database.
        """
        if session is None:
            return False
        self._session_rows.check(session)
        return True

    def insert_here(self, rows: Sequence[Row], session: Any) -> None:
        """See `Store`: the rows are written by the session's next flush."""
        if not self._owner:
            raise StoreUnavailableError("the store of durable tasks is not open")
        meant = self._session_rows.check(session)
        ids = {row.id for row in rows}

        def ended(_: bool) -> None:
            with self._lock:
                self._uncommitted -= ids

        with told_as_unavailable():
            self._session_rows.add(meant, self._values(rows))
        with self._lock:
            self._uncommitted |= ids
        Commits.of(meant).call_at_end(begun(meant), ended)

    def precondition(self, batch: Batch, session: Any) -> Precondition | None:
        """See `Store`: the commit of the session's transaction."""
        if session is None:
            return None
        return commit_of(batch, session, self._session_rows.check(session))

    # To look at tasks and to act on them.

    def count(self) -> Mapping[State, int]:
        """See `Store`."""
        state = self._tasks.c.state
        query = select(state, func.count()).group_by(state)
        found = self._look(lambda connection: _mapping(connection, query))
        return {"waiting": found.get("waiting", 0), "failed": found.get("failed", 0)}

    def find(self, state: State | None = None, limit: int = 100, offset: int = 0) -> list[Row]:
        """See `Store`."""
        tasks = self._tasks
        query = select(tasks).order_by(tasks.c.added, tasks.c.queue_id, tasks.c.position)
        if state is not None:
            query = query.where(tasks.c.state == state)
        query = query.limit(limit).offset(offset)
        return self._look(lambda connection: [_row(each) for each in connection.execute(query)])

    def get(self, task_id: str) -> Row | None:
        """See `Store`."""
        query = select(self._tasks).where(self._tasks.c.id == task_id)
        found = self._look(lambda connection: connection.execute(query).one_or_none())
        return None if found is None else _row(found)

    def retry(self, task_ids: Sequence[str]) -> int:
        """See `Store`."""
        tasks = self._tasks
        fresh = {"attempt": 1, "crashes": 0, "due": None, "failure": None, "ended": None}
        again = update(tasks).values(state="waiting", owner=None, has_begun=0, **fresh)
        return self._act(again.where(tasks.c.state == "failed"), task_ids)

    def discard(self, task_ids: Sequence[str]) -> int:
        """See `Store`."""
        tasks = self._tasks
        may_go = or_(tasks.c.state == "failed", _has_no_owner(tasks, self._ended_owners()))
        return self._act(delete(tasks).where(may_go), task_ids)

    def purge(self, before: float) -> int:
        """See `Store`."""
        tasks = self._tasks
        old = and_(tasks.c.state == "failed", tasks.c.ended < before)
        return self._look(lambda connection: connection.execute(delete(tasks).where(old)).rowcount)

    def _act(self, statement: Any, task_ids: Sequence[str]) -> int:
        id_ = self._tasks.c.id
        return self._look(
            lambda connection: sum(
                connection.execute(statement.where(id_.in_(part))).rowcount
                for part in _parts(task_ids)
            )
        )

    def _look(self, work: Callable[[Connection], T]) -> T:
        with told_as_unavailable():
            return self._in_transaction(work)

    def _in_transaction(self, work: Callable[[Connection], T]) -> T:
        """Do something in a transaction; again if the database has undone it for no fault of it."""
        for _ in range(_ATTEMPTS - 1):
            with suppress(_UndoneError):
                return self._once(work)
        try:
            return self._once(work)
        except _UndoneError as exc:
            raise exc.why from None

    def _once(self, work: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            if not self._owner:
                connection.detach()  # who only looks keeps none open
            try:
                result = work(connection)
            except DBAPIError as exc:
                if was_undone(exc):
                    raise _UndoneError(exc) from exc
                raise
            connection.commit()  # what comes of it if that fails nobody knows: not tried again
            return result


class _UndoneError(Exception):
    """The database has undone a transaction, before there was anything to commit."""

    def __init__(self, why: DBAPIError) -> None:
        super().__init__()
        self.why = why


def _is_due(tasks: FromClause, ended: Sequence[str]) -> ColumnElement[bool]:
    """Whether a task may be taken over."""
    is_due = or_(tasks.c.due.is_(None), tasks.c.due <= time.time())
    return and_(tasks.c.state == "waiting", _has_no_owner(tasks, ended), is_due)


def _has_no_owner(tasks: FromClause, ended: Any) -> ColumnElement[bool]:
    """Whether no living owner has a task: an index is used for both halves."""
    return or_(tasks.c.owner.is_(None), tasks.c.owner.in_(ended))


def _table(value: object) -> str:
    if not (isinstance(value, str) and value.isidentifier() and len(value) <= 48):
        raise SettingsError(
            "SQLAlchemyStore(table=...) accepts a name of at most 48 letters, digits and "
            f"underscores, not {value!r}"
        )
    return value


def _seconds(value: object) -> float:
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0.3 <= value <= _DAY:  # type: ignore[operator]  # it is a number
        raise SettingsError(
            f"SQLAlchemyStore(lease=...) accepts seconds from 0.3 to {_DAY:.0f}, not {value!r}"
        )
    return float(value)  # type: ignore[arg-type]  # it is a number


def _mapping(connection: Connection, query: Any) -> dict[Any, int]:
    found: Any = connection.execute(query)
    return dict(iter(found))


def _row(found: Any) -> Row:
    values: dict[str, Any] = {name: getattr(found, name) for name in Row._fields}
    values["is_recovered"] = bool(values["is_recovered"])
    return Row(**values)


def _parts(ids: Sequence[T], size: int = _PART) -> Iterator[Sequence[T]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
