"""What JSON does not know comes back as what it was, and nothing is made that nobody has named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgadapters.core.model.encoding import classes_of, decode, encode, reference

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Color(Enum):
    RED = "#f00"
    BLUE = object()


class Level(IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    color: Color = Color.RED
    parts: list[Line] = field(default_factory=list)


@dataclass
class Order:
    lines: list[Line]
    at: datetime


def ship(order: Order, level: Level | None, *more: Annotated[Color, "of the box"]) -> None: ...


def partly(order: Order, other: Unknown) -> None: ...


def back(value: Any, classes: dict[str, type] | None = None) -> Any:
    known = classes or {}
    return decode(json.loads(json.dumps(encode(value, known), allow_nan=False)), known)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones(), allow_imaginary=False)
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.just("$") | st.integers() | st.dates(), inner)
        | st.frozensets(st.integers() | st.text())
    ),
)


@given(values)
def test_a_value_comes_back_as_what_it_was(value: Any) -> None:
    again = back(value)
    assert repr(again) == repr(value) or again == value
    assert type(again) is type(value)


def test_the_second_of_two_equal_hours_comes_back_as_the_second() -> None:
    value = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    assert back(value).fold == 1
    assert back(value).utcoffset() == timedelta(hours=1)
    assert back(value).tzinfo is value.tzinfo


@pytest.mark.parametrize(
    "value", [time(1, tzinfo=timezone(timedelta(hours=3))), {1, "a"}, {"$": 1}, {(1,): b"\x00"}]
)
def test_what_is_rare(value: Any) -> None:
    assert back(value) == value
    assert type(back(value)) is type(value)


def test_objects_of_annotated_classes_come_back() -> None:
    part = Line("p", Decimal("1.10"), Color.BLUE)
    order = Order([Line("a", Decimal(2), parts=[part])], datetime(2026, 1, 1, tzinfo=UTC))
    classes = classes_of(ship)
    assert set(classes.values()) == {Order, Line, Color, Level}
    assert back([order, Level.LOW, Color.RED], classes) == [order, Level.LOW, Color.RED]
    assert back(Level.LOW, classes) is Level.LOW


def test_a_model_comes_back() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Item(pydantic.BaseModel):  # type: ignore[misc, name-defined, unused-ignore]
        id: UUID
        name: str = pydantic.Field(alias="itemName")
        until: date | None = None

    item = Item(id=UUID(int=1), itemName="a", until=date(2026, 1, 1))
    assert back([item], {reference(Item): Item}) == [item]


def test_a_class_that_no_annotation_names_is_refused() -> None:
    said = "Color is not in the annotations of the function, .*: annotate its parameter with Color"
    with pytest.raises(ValueError, match=said):
        encode(Color.RED, {})


def test_what_is_stored_has_no_class_made_that_no_annotation_names() -> None:
    stored = encode(Color.RED, classes_of(ship))
    with pytest.raises(ValueError, match=r"an object of .*:Color, which is not in the annotations"):
        decode(stored, {})
    other = {reference(Color): dict}  # a name that stands for something else by now
    with pytest.raises(ValueError, match="which is not in the annotations"):
        decode(stored, other)
    with pytest.raises(ValueError, match="which is not in the annotations"):
        decode({**stored, "$": "dataclass"}, classes_of(ship))


def test_a_kind_of_a_later_version_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'matrix', which this version does not know"):
        decode({"$": "matrix", "v": 1}, {})


def test_a_name_for_type_checkers_alone_hides_no_other() -> None:
    assert Order in classes_of(partly).values()


def test_what_has_no_module_has_no_classes() -> None:
    def func(value: Unknown) -> None: ...

    func.__module__ = "nowhere"
    assert classes_of(func) == {}
    assert classes_of(print) == {}
