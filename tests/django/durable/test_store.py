"""The store in a database of Django's, called as the thread that writes calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction

from bgadapters.adapters import Change, Row, Store
from bgadapters.django.durable.models import Owner, StoredTask
from bgadapters.django.durable.opening import store_at

Make = Callable[[str], Store]


@pytest.fixture
def make(alias: str) -> Iterator[Make]:
    """Open a store for an owner."""
    opened: list[Store] = []

    def make(owner: str) -> Store:
        store = store_at(f"django://{alias}")
        store.open(owner)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def row(task_id: str, **fields: Any) -> Row:
    given: dict[str, Any] = {"queue_id": "q", "position": 0, "added": 1.0, "payload": "{}"}
    given |= {"name": "f", **fields}
    return Row(task_id, **given)


def ids(rows: list[Row]) -> list[str]:
    return [each.id for each in rows]


def die(store: Any, alias: str) -> None:
    """End the owner of a store, as SIGKILL does, after its lease."""
    Owner.objects.using(alias).filter(id=store._owner).update(expires=0.0)


def test_what_is_written_can_be_read(make: Make) -> None:
    store = make("a")
    rows = [
        row("1"),
        row("2", key="ü" * 300, priority=-5, due=7.25, attempt=3, crashes=1, name="n" * 500),
    ]
    assert list(store.write(rows, ())) == []
    assert store.get("1") == rows[0]
    assert store.get("2") == rows[1]
    assert store.get("3") is None
    assert store.count() == {"waiting": 2, "failed": 0}
    assert ids(store.find("waiting", limit=1, offset=1)) == ["2"]
    assert store.find("failed") == []


def test_tasks_of_a_living_owner_stay_with_it(make: Make) -> None:
    one, other = make("a"), make("b")
    one.write([row("1")], ())
    assert other.take_over(10) == []
    assert one.take_over(10) == []


def test_tasks_of_a_dead_owner_are_taken_once(make: Make, alias: str) -> None:
    one, other, third = make("a"), make("b"), make("c")
    one.write([row("1"), row("2", position=1)], ())
    die(one, alias)
    taken = other.take_over(10)
    assert ids(taken) == ["1", "2"]
    assert all(each.is_recovered and each.crashes == 0 for each in taken)
    assert third.take_over(10) == []


def test_a_crash_counts_where_a_task_had_begun(make: Make, alias: str) -> None:
    one, other = make("a"), make("b")
    one.write([row("1"), row("2", position=1)], ())
    assert one.begin("2")
    die(one, alias)
    assert [each.crashes for each in other.take_over(10)] == [0, 1]
    assert not one.begin("1")


def test_an_owner_that_ends_leaves_its_tasks_at_once(make: Make, alias: str) -> None:
    one, other = make("a"), make("b")
    one.write([row("1")], ())
    one.begin("1")
    one.close()
    assert [(each.id, each.crashes) for each in other.take_over(10)] == [("1", 0)]
    assert list(Owner.objects.using(alias).filter(id="a")) == []


def test_queues_are_taken_in_order_and_as_a_whole(make: Make, alias: str) -> None:
    one, other = make("a"), make("b")
    one.write(
        [
            row("late", queue_id="z", added=0.5, position=1),
            row("b1", queue_id="b", added=2.0, position=0),
            row("b2", queue_id="b", added=9.0, position=1),
            row("early", queue_id="z", added=0.4, position=0),
            row("a1", queue_id="a", added=5.0, position=0),
        ],
        (),
    )
    die(one, alias)
    assert ids(other.take_over(4)) == ["early", "late", "b1", "b2"]
    assert ids(other.take_over(4)) == ["a1"]


def test_two_that_take_at_once_never_share_a_queue(make: Make, alias: str) -> None:
    one = make("a")
    one.write(
        [row(f"{q}-{p}", queue_id=str(q), position=p) for q in range(30) for p in range(5)], ()
    )
    die(one, alias)
    stores = [make(f"s{number}") for number in range(4)]
    taken: list[list[Row]] = [[] for _ in stores]
    start = threading.Barrier(len(stores))

    def take(number: int) -> None:
        start.wait()
        while rows := stores[number].take_over(25):
            taken[number] += rows

    threads = [threading.Thread(target=take, args=[number]) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(each.id for rows in taken for each in rows) == sorted(
        f"{q}-{p}" for q in range(30) for p in range(5)
    )
    owners = [{each.queue_id for each in rows} for rows in taken]
    assert sum(map(len, owners)) == 30


def test_changes(make: Make) -> None:
    store, other = make("a"), make("b")
    store.write([row(str(number), position=number) for number in range(5)], ())
    lost = store.write(
        [row("new", position=9)],
        [
            Change("0", "delete"),
            Change("1", "again", attempt=2, due=99.5),
            Change("2", "fail", attempt=4, failure='{"error": "x"}'),
            Change("3", "free"),
            Change("gone", "delete"),
        ],
    )
    assert list(lost) == []
    assert store.get("0") is None
    again, failed = store.get("1"), store.get("2")
    assert again is not None
    assert failed is not None
    assert (again.attempt, again.due) == (2, 99.5)
    assert (failed.state, failed.attempt, failed.failure) == ("failed", 4, '{"error": "x"}')
    assert failed.ended is not None
    assert ids(other.take_over(10)) == ["3"]


def test_what_another_owner_has_is_not_changed_and_named(make: Make, alias: str) -> None:
    one, other = make("a"), make("b")
    one.write([row(each) for each in "1234"], ())
    die(one, alias)
    assert len(other.take_over(10)) == 4
    changes = [
        Change("1", "delete"),
        Change("2", "fail", failure="{}"),
        Change("3", "again"),
        Change("4", "free"),
    ]
    assert sorted(one.write([], changes)) == ["1", "2", "3", "4"]
    assert one.count() == {"waiting": 4, "failed": 0}


def test_of_the_tasks_of_a_key_the_last_one_that_was_claimed_stays(make: Make, alias: str) -> None:
    one, other = make("a"), make("b")
    one.write([row("1", key="k"), row("unclaimed", key="k"), row("x", key="other")], ())
    other.write([row("2", key="k")], ())
    assert list(one.write([], [Change("1", "claim"), Change("x", "claim")])) == []
    assert list(other.write([], [Change("2", "claim")])) == []
    assert one.get("1") is None
    assert not one.begin("1")
    assert one.get("unclaimed") is not None
    assert one.get("x") is not None
    assert other.begin("2")
    one.write([row("3", key="k")], ())
    one.write([], [Change("3", "claim")])
    assert one.get("2") is not None  # it has begun
    one.write([row("4", key="k")], [])
    one.write([], [Change("4", "claim", keeps=True)])
    assert one.get("4") is None
    assert one.begin("3")


def test_a_key_that_two_claim_at_once_has_one_task(make: Make, alias: str) -> None:
    stores = [make(f"s{number}") for number in range(4)]
    for number, store in enumerate(stores):
        store.write([row(f"t{number}", key="k")], ())
    start = threading.Barrier(len(stores))

    def claim(number: int) -> None:
        start.wait()
        stores[number].write([], [Change(f"t{number}", "claim")])

    threads = [threading.Thread(target=claim, args=[number]) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert stores[0].count() == {"waiting": 1, "failed": 0}


def test_failed_tasks_are_retried_discarded_and_purged(make: Make) -> None:
    store = make("a")
    store.write([row(each) for each in "12345"], ())
    store.write([], [Change(each, "fail", attempt=3, failure="{}") for each in "1234"])
    assert store.retry(["1", "5", "none"]) == 1
    again = store.get("1")
    assert again is not None
    assert (again.state, again.attempt, again.failure, again.ended) == ("waiting", 1, None, None)
    assert store.discard(["2", "5", "none"]) == 1  # a living owner has the fifth
    assert store.discard(["1"]) == 1  # which nobody has
    assert store.purge(before=0.0) == 0
    assert store.purge(before=1e12) == 2
    assert ids(store.find()) == ["5"]


def test_nothing_is_written_if_something_is_refused(make: Make) -> None:
    store = make("a")
    store.write([row("1")], ())
    with pytest.raises(Exception, match="failed"):
        store.write([row("2"), row("1")], [])
    assert store.get("2") is None


def test_no_signal_is_sent(make: Make) -> None:
    """Receivers of all models are there in projects that log changes: they may raise."""
    from django.db.models import signals

    def refuse(**_: Any) -> None:
        raise AssertionError

    kinds = [signals.pre_save, signals.post_save, signals.pre_delete, signals.post_delete]
    for kind in kinds:
        kind.connect(refuse)
    try:
        store = make("a")
        store.write([row("1"), row("2")], ())
        store.write([], [Change("1", "delete"), Change("2", "fail", failure="{}")])
        store.take_over(5)
        assert store.purge(1e12) == 1
        store.close()
    finally:
        for kind in kinds:
            kind.disconnect(refuse)


def test_a_row_is_written_in_the_transaction_that_is_open(make: Make, alias: str) -> None:
    store, other = make("a"), make("b")
    assert not store.shares_transaction(None)
    with transaction.atomic(alias):
        assert store.shares_transaction(None)
        store.insert_here([row("1")], None)
        if alias != "default":  # where others may read meanwhile
            assert other.take_over(5) == []
    assert store.get("1") is not None
    assert other.take_over(5) == []
    assert ids([each for each in [store.get("1")] if each]) == ["1"]


def test_a_rollback_takes_the_row(make: Make, alias: str) -> None:
    store = make("a")
    with transaction.atomic(alias):
        store.insert_here([row("kept")], None)
        with pytest.raises(LookupError), transaction.atomic(alias):
            store.insert_here([row("1")], None)
            raise LookupError
    assert ids(store.find()) == ["kept"]


def test_what_is_discarded_before_its_commit_is_deleted_by_it(make: Make, alias: str) -> None:
    """Otherwise it would be kept for ever by this owner, and run after its end."""
    store = make("a")
    with transaction.atomic(alias):
        store.insert_here([row("1"), row("2")], None)
        if alias == "default":  # SQLite lets nobody else write meanwhile
            assert store._undecided.discard(["1"]) == []  # type: ignore[attr-defined]
        else:
            thread = threading.Thread(target=store.write, args=([], [Change("1", "delete")]))
            thread.start()
            thread.join()
    assert ids(store.find()) == ["2"]


def test_a_connection_that_the_server_has_closed_is_opened_again(make: Make, alias: str) -> None:
    if alias == "default":
        pytest.skip("SQLite has no server")
    store = make("a")
    store.write([row("1")], ())
    with connections[alias].cursor() as cursor:
        if alias == "postgres":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        else:
            cursor.execute(
                "SELECT id FROM information_schema.processlist "
                "WHERE id <> connection_id() AND db = database()"
            )
            for (number,) in cursor.fetchall():
                cursor.execute(f"KILL {number}")
    store.write([row("2", position=1)], ())
    assert ids(store.find()) == ["1", "2"]


def test_the_lease_of_a_first_task_comes_with_it(make: Make, alias: str) -> None:
    """Its owner is not taken to be dead before the lease was written by itself."""
    store, other = make("a"), make("b")
    with transaction.atomic(alias):
        store.insert_here([row("1")], None)
    assert other.take_over(5) == []


def test_the_tables_are_of_the_application(alias: str) -> None:
    assert StoredTask._meta.db_table == "bgadapters_durable_storedtask"
