"""What holds for every store of durable tasks.

A store's own tests have a class of their own beside this one::

    class TestContract(StoreContract):
        @pytest.fixture
        def place(self, tmp_path: Path) -> Place:
            return Place(f"sqlite:///{tmp_path}/tasks.db")

`Place` is in ``tests/stores/processes.py``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest

from bgadapters.adapters import StoreUnavailableError
from bgadapters.stores import Change, Row, Store
from tests.stores.process import in_child
from tests.stores.processes import Other, Place, until

Opened = Callable[[str], Store]
Started = Callable[[str], Other]


def row(number: int, queue: str = "q", **fields: object) -> Row:
    """Make a row of a response; the times and positions follow the numbers."""
    made = Row(
        id=f"{number:032x}",
        queue_id=queue,
        position=number,
        added=1_700_000_000.0 + number,
        payload=f'{{"number": {number}}}',
        name=f"module.task{number}",
    )
    return made._replace(**fields)  # type: ignore[arg-type]


def ids(rows: Sequence[Row]) -> list[str]:
    """Return what rows are told apart by."""
    return [each.id for each in rows]


def numbers(rows: Sequence[Row]) -> list[int]:
    """Return the numbers that `row` has made rows with."""
    return [int(each.id, 16) for each in rows]


class StoreContract:
    """Subclass it with a fixture ``place``."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def opened(self, place: Place) -> Iterator[Opened]:
        """Open a store in this process as an owner."""
        stores: list[Store] = []

        def make(owner: str) -> Store:
            store = place.store()
            store.open(owner)
            stores.append(store)
            return store

        yield make
        for store in stores:
            with suppress(StoreUnavailableError):  # it was closed by the test
                store.close()

    @pytest.fixture
    def store(self, opened: Opened) -> Store:
        return opened("here")

    @pytest.fixture
    def started(self, place: Place) -> Iterator[Started]:
        """Run another process with a store that is open as an owner."""
        made: list[Other] = []

        def start(owner: str) -> Other:
            process = Other(place)
            made.append(process)
            process.open(owner)
            return process

        yield start
        for process in made:
            process.dispose()

    def taken(self, store: Store, place: Place, limit: int = 100) -> list[Row]:
        """Take over what is there, once it is noticed that its owner is dead."""
        deadline = time.monotonic() + place.patience
        while not (rows := store.take_over(limit)) and time.monotonic() < deadline:
            time.sleep(0.05)  # nobody tells when a lease has run out
        return rows

    # What is kept

    def test_a_task_is_kept_as_it_is(self, store: Store) -> None:
        full = row(
            1,
            payload='{"name": "Zoë 🎈", "long": "' + "x" * 70_000 + '"}',
            name="módulo.función",
            key="k",
            priority=-100,
            due=1_800_000_000.123456,
            attempt=3,
            crashes=2,
            is_recovered=True,
        )
        assert store.write([full, row(2)], ()) == []
        assert [store.get(full.id), store.get(row(2).id)] == [full, row(2)]
        assert store.get("nothing") is None

    def test_they_are_counted_and_found_the_oldest_first(self, store: Store) -> None:
        assert store.count() == {"waiting": 0, "failed": 0}
        assert store.find() == []
        store.write([row(n) for n in range(6)], ())
        store.write((), [Change(row(n).id, "fail", failure="{}") for n in (4, 1)])
        assert store.count() == {"waiting": 4, "failed": 2}
        assert numbers(store.find()) == [0, 1, 2, 3, 4, 5]
        assert numbers(store.find("waiting")) == [0, 2, 3, 5]
        assert numbers(store.find("failed")) == [1, 4]
        assert numbers(store.find(limit=2, offset=3)) == [3, 4]
        assert numbers(store.find("waiting", 2, 1)) == [2, 3]

    def test_nothing_counts_of_a_write_that_fails(self, store: Store) -> None:
        store.write([row(1)], ())
        with pytest.raises(StoreUnavailableError):
            store.write([row(2), row(1), row(3)], [Change(row(1).id, "delete")])
        assert numbers(store.find()) == [1]
        store.write([row(2)], [Change(row(1).id, "delete")])  # and it goes on
        assert numbers(store.find()) == [2]

    # What becomes of it

    def test_changes(self, store: Store) -> None:
        store.write([row(n) for n in range(4)], ())
        before = time.time()
        lost = store.write(
            (),
            [
                Change(row(0).id, "delete"),
                Change(row(1).id, "again", attempt=2, due=before + 60),
                Change(row(2).id, "fail", attempt=4, failure='{"error": "E"}'),
                Change(row(3).id, "again", attempt=2, due=before),
                Change(row(3).id, "again", attempt=3, due=before + 1),
                Change("unknown", "delete"),
            ],
        )
        assert lost == []
        assert store.get(row(0).id) is None
        assert store.get(row(1).id) == row(1)._replace(attempt=2, due=before + 60)
        assert store.get(row(3).id) == row(3)._replace(attempt=3, due=before + 1)
        failed = store.get(row(2).id)
        assert failed is not None
        assert failed.ended is not None
        assert before - 5 <= failed.ended <= time.time() + 5
        assert failed._replace(ended=None) == row(2)._replace(
            state="failed", attempt=4, failure='{"error": "E"}'
        )

    def test_a_task_that_ends_as_it_is_kept_is_not_kept(self, store: Store) -> None:
        store.write([row(1), row(2)], ())
        store.write([row(3)], [Change(row(1).id, "again", 2, 5.0), Change(row(1).id, "delete")])
        assert numbers(store.find()) == [2, 3]

    @pytest.mark.parametrize("kind", ["delete", "again", "fail", "free", "claim"])
    def test_a_change_of_what_another_owner_has_does_not_count(
        self, opened: Opened, store: Store, kind: str
    ) -> None:
        another = opened("another")
        another.write([row(1, key="k")], ())
        store.write([row(2, key="k")], ())
        before = store.get(row(1).id)
        lost = store.write((), [Change(row(1).id, kind), Change(row(2).id, "delete")])  # type: ignore[arg-type]
        assert lost == [row(1).id]
        assert store.get(row(1).id) == before
        assert store.get(row(2).id) is None
        assert another.begin(row(1).id)

    def test_a_task_begins_where_it_is(self, opened: Opened, store: Store) -> None:
        another = opened("another")
        store.write([row(1), row(2), row(3)], ())
        store.write((), [Change(row(2).id, "delete"), Change(row(3).id, "fail", failure="{}")])
        assert [store.begin(row(n).id) for n in (1, 2, 3)] == [True, False, False]
        assert not another.begin(row(1).id)

    # Who has it

    def test_nobody_takes_from_the_living(
        self, opened: Opened, store: Store, started: Started
    ) -> None:
        other, neighbour = started("other"), opened("neighbour")
        store.write([row(1, "a")], ())
        other.write([row(2, "b")])
        neighbour.write([row(3, "c")], ())
        assert other.begin(row(2).id)
        for each in (store, neighbour):
            assert each.take_over(10) == []
        assert other.take_over(10) == []

    def test_what_a_killed_process_had_is_taken_once(
        self, store: Store, place: Place, opened: Opened, started: Started
    ) -> None:
        other, neighbour = started("other"), opened("neighbour")
        other.write([row(1), row(2), row(3)], [])
        other.write([], [Change(row(3).id, "fail", failure="{}")])
        assert other.begin(row(1).id)
        other.kill()
        assert self.taken(store, place) == [
            row(1)._replace(crashes=1, is_recovered=True),
            row(2)._replace(is_recovered=True),
        ]
        assert store.take_over(10) == neighbour.take_over(10) == []
        assert store.write((), [Change(row(1).id, "delete")]) == []
        assert numbers(store.find()) == [2, 3]

    def test_crashes_add_up(self, store: Store, place: Place, started: Started) -> None:
        first, second = started("first"), started("second")
        first.write([row(1), row(2)])
        first.begin(row(1).id)
        first.kill()
        until(second.take_over, place.patience + 1)
        second.begin(row(1).id)
        second.begin(row(2).id)
        second.kill()
        assert [each.crashes for each in self.taken(store, place)] == [2, 1]

    def test_no_crash_between_two_attempts(
        self, store: Store, place: Place, started: Started
    ) -> None:
        other = started("other")
        other.write([row(1)])
        assert other.begin(row(1).id)
        other.write([], [Change(row(1).id, "again", 2, 1_700_000_000.0)])
        other.kill()
        (left,) = self.taken(store, place)
        assert left == row(1)._replace(attempt=2, due=1_700_000_000.0, is_recovered=True)

    def test_what_an_owner_leaves_when_it_closes_is_free_at_once(
        self, store: Store, started: Started
    ) -> None:
        other = started("other")
        other.write([row(1), row(2)])
        other.begin(row(1).id)
        other.close()
        assert store.take_over(10) == [
            row(1)._replace(is_recovered=True),
            row(2)._replace(is_recovered=True),
        ]

    def test_what_an_owner_will_not_run_is_free(self, store: Store, opened: Opened) -> None:
        another = opened("another")
        another.write([row(1), row(2)], ())
        another.write((), [Change(row(1).id, "free")])
        assert ids(store.take_over(10)) == [row(1).id]
        assert another.write((), [Change(row(1).id, "delete")]) == [row(1).id]

    def test_what_an_owner_puts_off_is_for_whoever_comes_when_it_is_due(
        self, store: Store, opened: Opened
    ) -> None:
        store.write([row(1), row(2), row(3, "other")], ())
        due = time.time() + 60
        for each in (row(1), row(2)):
            put_off = [Change(each.id, "again", each.attempt, due), Change(each.id, "free")]
            assert store.write((), put_off) == []
        another = opened("another")
        assert another.take_over(10) == store.take_over(10) == []
        store.write((), [Change(row(1).id, "delete")])  # which it has no more
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: due)
            assert numbers(another.take_over(10)) == [1, 2]
        found = store.get(row(2).id)
        assert found is not None
        assert (found.attempt, found.crashes) == (1, 0)

    def test_a_process_that_stands_still_and_goes_on_has_its_tasks(
        self, store: Store, started: Started
    ) -> None:
        other = started("other")
        other.write([row(1)])
        other.stop()
        assert store.take_over(10) == []
        other.go_on()
        assert other.begin(row(1).id)

    def test_one_owner_ends_and_another_one_of_its_process_lives(
        self, store: Store, opened: Opened, started: Started
    ) -> None:
        other, neighbour = started("other"), opened("neighbour")
        store.write([row(1, "a")], ())
        neighbour.write([row(2, "b")], ())
        assert store.take_over(10) == neighbour.take_over(10) == []
        neighbour.close()
        assert ids(other.take_over()) == [row(2).id]
        assert store.begin(row(1).id)

    def test_a_store_that_was_closed_can_be_opened_as_another_owner(
        self, place: Place, started: Started
    ) -> None:
        store = place.store()
        store.open("first")
        store.write([row(1)], ())
        store.close()
        store.open("second")
        try:
            store.write([row(2, "b")], ())
            assert ids(started("other").take_over()) == [row(1).id]
            assert store.begin(row(2).id)
        finally:
            store.close()

    # In which order

    def test_the_oldest_come_first_and_queues_stay_together(
        self, store: Store, opened: Opened, started: Started, place: Place
    ) -> None:
        other, another = started("other"), opened("another")
        other.write([row(0, "a"), row(1, "b"), row(2, "c")])
        another.write([row(3, "d")], ())
        other.write([row(4, "b"), row(5, "a")])
        another.close()
        other.kill()
        rows = self.taken(store, place)
        if len(rows) == 1:  # where one owner is free before the other is dead
            rows += self.taken(store, place)
        in_order = [0, 5, 1, 4, 2, 3]
        assert sorted(numbers(rows)) == sorted(in_order)
        if not place.patience:
            assert numbers(rows) == in_order

    def test_what_is_not_due_stays_where_it_is(
        self, store: Store, started: Started, opened: Opened
    ) -> None:
        other, now = started("other"), time.time()
        other.write([row(1), row(2, due=now + 3600), row(3, due=now - 60), row(4, due=now + 1)])
        other.close()
        assert numbers(store.take_over(10)) == [1, 3]
        assert store.take_over(10) == []
        until(lambda: time.time() > now + 1)
        assert numbers(opened("another").take_over(10)) == [4]
        left = store.get(row(2).id)
        assert left is not None
        assert left.due == now + 3600

    def test_of_a_queue_the_positions_count(self, store: Store, started: Started) -> None:
        other = started("other")
        other.write([row(2, position=7), row(0, position=5), row(1, position=6)])
        other.close()
        assert numbers(store.take_over(10)) == [0, 1, 2]

    def test_the_limit_splits_no_queue_but_one_that_is_larger(
        self, store: Store, started: Started
    ) -> None:
        other = started("other")
        queues = "aaabbbbbc"
        other.write([row(n, queue) for n, queue in enumerate(queues)])
        other.close()
        taken = [numbers(store.take_over(4)) for _ in range(5)]
        assert taken == [[0, 1, 2], [3, 4, 5, 6], [7, 8], [], []]

    def test_processes_take_each_task_once(
        self, store: Store, started: Started, place: Place
    ) -> None:
        others = [started(f"other{n}") for n in range(3)]
        dead = started("dead")
        dead.write([row(n, f"q{n // 3}") for n in range(900)])
        dead.kill()
        taken = self.taken(store, place, 60)
        rows = [*taken]
        while True:
            for each in others:
                each.ask("take_over", 60)
            found = store.take_over(60)
            for each in others:
                found += [Row(*fields) for fields in each.answer()]
            if not found:
                break
            rows += found
        assert sorted(numbers(rows)) == list(range(900))

    # Keys

    def test_of_the_tasks_of_a_key_the_last_one_claimed_stays(
        self, store: Store, opened: Opened
    ) -> None:
        another = opened("another")
        store.write([row(1, key="k"), row(2, key="k"), row(3, key="other"), row(4)], ())
        another.write([row(5, "b", key="k")], ())
        assert another.write((), [Change(row(5).id, "claim")]) == []
        assert len(store.find()) == 5  # the others are not released yet
        assert store.write((), [Change(row(n).id, "claim") for n in (1, 3)]) == []
        assert numbers(store.find()) == [1, 2, 3, 4]
        assert not another.begin(row(5).id)
        assert another.write((), [Change(row(5).id, "delete")]) == []
        store.write((), [Change(row(2).id, "claim")])
        assert numbers(store.find()) == [2, 3, 4]
        assert store.begin(row(2).id)

    def test_or_the_first_one(self, store: Store, opened: Opened) -> None:
        another = opened("another")
        store.write([row(1, key="k")], ())
        another.write([row(2, "b", key="k"), row(3, "b", key="k")], ())
        store.write((), [Change(row(1).id, "claim", keeps=True)])
        assert another.write((), [Change(row(2).id, "claim", keeps=True)]) == []
        assert numbers(store.find()) == [1, 3]
        assert not another.begin(row(2).id)
        assert store.begin(row(1).id)
        another.write((), [Change(row(3).id, "claim", keeps=True)])
        assert numbers(store.find()) == [1, 3]  # the first one does not wait any more

    def test_a_task_that_has_begun_goes_on(self, store: Store, opened: Opened) -> None:
        another = opened("another")
        store.write([row(1, key="k")], [Change(row(1).id, "claim")])
        assert store.begin(row(1).id)
        another.write([row(2, "b", key="k")], [Change(row(2).id, "claim")])
        assert numbers(store.find()) == [1, 2]

    def test_a_failed_task_waits_for_nothing(self, store: Store) -> None:
        store.write([row(1, key="k"), row(2, key="k")], [Change(row(1).id, "claim")])
        store.write((), [Change(row(1).id, "fail", failure="{}")])
        store.write((), [Change(row(2).id, "claim", keeps=True)])
        assert numbers(store.find()) == [1, 2]

    def test_a_claim_counts_once(self, store: Store, started: Started, place: Place) -> None:
        """A task that was taken over is claimed again, and takes nothing from later ones."""
        other = started("other")
        other.write([row(1, key="k")], [Change(row(1).id, "claim")])
        other.kill()
        assert numbers(self.taken(store, place)) == [1]
        store.write([row(2, "b", key="k")], [Change(row(1).id, "claim")])
        store.write((), [Change(row(2).id, "claim")])
        assert numbers(store.find()) == [2]

    # Looking and acting

    def test_failed_tasks_run_again(self, store: Store, opened: Opened) -> None:
        another = opened("another")
        another.write([row(1, attempt=1, crashes=3), row(2)], ())
        another.write((), [Change(row(1).id, "fail", attempt=5, failure="{}")])
        assert store.retry([row(1).id, row(2).id, "unknown"]) == 1
        assert another.retry([row(1).id]) == 0
        (again,) = store.take_over(10)
        assert again._replace(is_recovered=False) == row(1)
        assert store.begin(row(1).id)

    def test_what_nobody_will_run_can_be_discarded(
        self, store: Store, opened: Opened, started: Started
    ) -> None:
        dead, another = started("dead"), opened("another")
        dead.write([row(1, "a"), row(2, "a")])
        another.write([row(3, "b"), row(4, "b")], ())
        dead.close()
        another.write((), [Change(row(3).id, "fail", failure="{}")])
        assert store.discard([row(n).id for n in range(1, 5)][1:]) == 2
        assert numbers(store.find()) == [1, 4]

    def test_what_a_killed_process_had_can_be_discarded(
        self, store: Store, started: Started, place: Place
    ) -> None:
        dead = started("dead")
        dead.write([row(1)])
        assert store.discard([row(1).id]) == 0
        dead.kill()
        until(lambda: store.discard([row(1).id]) == 1, place.patience + 1)
        assert store.find() == []

    def test_old_failures_are_purged(self, store: Store) -> None:
        store.write([row(n) for n in range(3)], ())
        store.write((), [Change(row(n).id, "fail", failure="{}") for n in (0, 1)])
        assert store.purge(time.time() - 60) == 0
        assert store.purge(time.time() + 60) == 2
        assert numbers(store.find()) == [2]

    def test_any_thread_looks_while_the_owner_writes(self, store: Store, place: Place) -> None:
        looks: list[int] = []
        raised: list[BaseException] = []
        looked, ended = threading.Event(), threading.Event()

        def look() -> None:
            try:
                while not ended.is_set():
                    for each in (store, onlooker):
                        each.find(limit=3)
                        each.get(row(1).id)
                        looks.append(sum(each.count().values()))
                    looked.set()
            except BaseException as exc:
                raised.append(exc)
                looked.set()

        onlooker = place.store()
        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for n in range(100):
            store.write([row(n), row(n + 1000)], ())
        assert looked.wait(10)
        ended.set()
        for thread in threads:
            thread.join()
        assert raised == []
        assert all(look % 2 == 0 for look in looks)

    def test_one_that_is_not_open_acts(self, store: Store, place: Place) -> None:
        store.write([row(n) for n in range(3)], ())
        store.write((), [Change(row(n).id, "fail", failure="{}") for n in (0, 1)])
        onlooker = place.store()
        assert onlooker.retry([row(0).id]) == 1
        assert onlooker.discard([row(1).id, row(2).id]) == 1
        assert onlooker.purge(time.time() + 60) == 0
        assert onlooker.count() == {"waiting": 2, "failed": 0}

    # Forks

    def test_a_forked_child_is_an_owner_of_its_own(
        self, store: Store, place: Place, started: Started
    ) -> None:
        store.write([row(1, "a")], ())

        def child() -> None:
            store.forget_connections()
            own = place.store()
            own.open("child")
            assert own.take_over(10) == []
            own.write([row(2, "b")], ())
            assert own.begin(row(2).id)
            own.close()

        in_child(child)
        assert ids(started("other").take_over()) == [row(2).id]
        store.write([row(3, "c")], [Change(row(1).id, "delete")])
        assert numbers(store.find()) == [2, 3]

    def test_a_forked_child_opens_the_store_that_it_has_inherited(self, store: Store) -> None:
        """A store that is given as an object is the only one there is."""
        store.write([row(1, "a")], ())

        def child() -> None:
            store.forget_connections()
            store.open("child")
            assert store.take_over(10) == []
            store.write([row(2, "b")], ())
            assert store.write((), [Change(row(1).id, "delete")]) == [row(1).id]
            store.close()

        in_child(child)
        assert numbers(store.find()) == [1, 2]
        assert store.begin(row(1).id)

    def test_a_forked_child_keeps_no_owner_alive(
        self, store: Store, place: Place, started: Started
    ) -> None:
        parent = started("parent")
        parent.write([row(1)])
        child = parent.call("fork")
        try:
            assert store.take_over(10) == []
            parent.kill()
            assert numbers(self.taken(store, place)) == [1]
        finally:
            os.kill(child, signal.SIGKILL)
