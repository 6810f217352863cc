"""Values as JSON, so that they come back as what they were: what a task may be given elsewhere.

What JSON knows is written as itself. Anything else is written as an object with one tag, ``"$"``,
which says what its ``"v"`` is. A class of the application is written by its name. It is never
imported by that name: it is looked up among the classes that the annotations of the function
tell, so that whoever can change what is stored cannot have other code called.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args, get_type_hints
from uuid import UUID
from zoneinfo import ZoneInfo

TAG, VALUE, CLASS = "$", "v", "c"

Classes = Mapping[str, type]
"""Classes of the application, each by its ``module:qualname``."""


class _Codec(NamedTuple):
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _encode_time(value: datetime | time) -> Any:
    zone = value.tzinfo
    if isinstance(zone, ZoneInfo):
        return [value.replace(tzinfo=None).isoformat(), zone.key, value.fold]
    if zone is None or type(zone) is timezone:
        return [value.isoformat(), None, value.fold]
    raise ValueError(f"its time zone is a {type(zone).__name__}: take one of zoneinfo or datetime")


def _decode_time(kind: type[datetime | time], parts: list[Any]) -> Any:
    text, key, fold = parts
    value = kind.fromisoformat(text).replace(fold=fold)
    return value if key is None else value.replace(tzinfo=ZoneInfo(key))


_CODECS: dict[type, _Codec] = {
    date: _Codec("date", date.isoformat, date.fromisoformat),
    datetime: _Codec("datetime", _encode_time, partial(_decode_time, datetime)),
    time: _Codec("time", _encode_time, partial(_decode_time, time)),
    timedelta: _Codec(
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(*parts),
    ),
    Decimal: _Codec("decimal", str, Decimal),
    UUID: _Codec("uuid", str, UUID),
    bytes: _Codec("bytes", lambda value: b64encode(value).decode(), b64decode),
}
_BY_NAME = {codec.name: codec for codec in _CODECS.values()}
PLAIN = (type(None), bool, int, float, str)
"""The types of what JSON writes as itself."""

_GROUPS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
_GROUP_OF: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}

ACCEPTED = (
    "None, bool, int, float, str, bytes, list, tuple, set, dict, date, datetime, time, timedelta, "
    "Decimal, UUID; and enums, dataclasses and pydantic models that the function's annotations name"
)


def encode(value: Any, classes: Classes) -> Any:
    """Return a value as what JSON can write.

    Args:
        value: the value.
        classes: those of the application that it may have; see `classes_of`.

    Raises:
        ValueError: it is of a type, or has a part of one, that cannot be kept. The message says
            which, and what to pass instead.
        RecursionError: it contains itself.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is list:
        return [encode(each, classes) for each in value]
    if kind is dict:
        return _encode_dict(value, classes)
    codec = _CODECS.get(kind)
    if codec is not None:
        return {TAG: codec.name, VALUE: codec.encode(value)}
    group = _GROUP_OF.get(kind)
    if group is not None:
        return {TAG: group, VALUE: [encode(each, classes) for each in value]}
    return _encode_object(value, kind, classes)


def _encode_dict(value: dict[Any, Any], classes: Classes) -> Any:
    if TAG not in value and all(type(key) is str for key in value):
        return {key: encode(each, classes) for key, each in value.items()}
    pairs = [[encode(key, classes), encode(each, classes)] for key, each in value.items()]
    return {TAG: "dict", VALUE: pairs}


def _encode_object(value: Any, kind: type, classes: Classes) -> Any:
    codec = _codec_of(kind, classes)
    if codec is None:
        raise ValueError(_advice(value, kind))
    name = reference(kind)
    if classes.get(name) is not kind:
        raise ValueError(
            f"{kind.__name__} is not in the annotations of the function, which say what may be "
            f"made of stored values: annotate its parameter with {kind.__name__}"
        )
    return {TAG: codec.name, CLASS: name, VALUE: codec.encode(value)}


def decode(data: Any, classes: Classes) -> Any:
    """Return the value that `encode` was given.

    Args:
        data: what `encode` has returned, after JSON.
        classes: as for `encode`.

    Raises:
        ValueError: it was written by another version, or names a class that is not among these.
    """
    if isinstance(data, list):
        return [decode(each, classes) for each in data]
    if not isinstance(data, dict):
        return data
    if TAG not in data:
        return {key: decode(each, classes) for key, each in data.items()}
    return _decode_tagged(data[TAG], data[VALUE], data.get(CLASS), classes)


def _decode_tagged(name: str, value: Any, class_name: str | None, classes: Classes) -> Any:
    if class_name is not None:
        return _decode_object(name, value, class_name, classes)
    if name in _BY_NAME:
        return _BY_NAME[name].decode(value)
    if name == "dict":
        return {decode(key, classes): decode(each, classes) for key, each in value}
    if name in _GROUPS:
        return _GROUPS[name](decode(value, classes))
    raise ValueError(f"it has a value of the kind {name!r}, which this version does not know")


def _decode_object(name: str, value: Any, class_name: str, classes: Classes) -> Any:
    kind = classes.get(class_name)
    codec = None if kind is None else _codec_of(kind, classes)
    if codec is None or codec.name != name:
        raise ValueError(
            f"it has an object of {class_name}, which is not in the annotations of the function"
        )
    return codec.decode(value)


def reference(named: Any) -> str:
    """Return ``module:qualname`` of a function or a class."""
    return f"{named.__module__}:{named.__qualname__}"


def _codec_of(kind: type, classes: Classes) -> _Codec | None:
    """Return how objects of a class of the application are written; None if they cannot be."""
    if issubclass(kind, enum.Enum):
        return _Codec("enum", lambda value: value.name, lambda name: kind[name])
    if dataclasses.is_dataclass(kind):
        return _Codec(
            "dataclass",
            lambda value: _fields_of(value, classes),
            lambda fields: kind(**{name: decode(each, classes) for name, each in fields.items()}),
        )
    if _is_model(kind):
        model: Any = kind
        return _Codec(
            "model",
            lambda value: value.model_dump(mode="json", by_alias=True, round_trip=True),
            model.model_validate,
        )
    return None


def _fields_of(value: Any, classes: Classes) -> dict[str, Any]:
    fields = (field for field in dataclasses.fields(value) if field.init)
    return {field.name: encode(getattr(value, field.name), classes) for field in fields}


def _is_model(kind: type) -> bool:
    """Whether it is a model of pydantic 2, which is not imported for it."""
    return hasattr(kind, "model_validate") and hasattr(kind, "__pydantic_core_schema__")


def _advice(value: Any, kind: type) -> str:
    if hasattr(kind, "_meta") or hasattr(kind, "__mapper__"):
        return (
            f"{kind.__name__} is an object of the ORM. Pass its primary key, and load it in the "
            "task: by then another request may have changed it"
        )
    for plain in (bool, int, float, str, bytes, dict, list, tuple, set):
        if isinstance(value, plain):
            return (
                f"{kind.__name__} would come back as {plain.__name__}: pass {plain.__name__}(...)"
            )
    return (
        f"an object of {kind.__name__} cannot be kept as JSON. Pass the values that it is made of"
    )


def classes_of(func: Any) -> dict[str, type]:
    """Return the classes of the application that the annotations of a function name.

    Those are enums, dataclasses and pydantic models, in unions and containers as well, and those
    that the annotated fields of these dataclasses name.
    """
    found: dict[str, type] = {}
    left = list(_hints(func))
    while left:
        hint = left.pop()
        left += get_args(hint)
        if not isinstance(hint, type) or _codec_of(hint, found) is None:
            continue
        if reference(hint) not in found:
            found[reference(hint)] = hint
            left += _hints(hint) if dataclasses.is_dataclass(hint) else ()
    return found


def _hints(annotated: Any) -> list[Any]:
    try:
        return list(get_type_hints(annotated).values())
    except Exception:  # one of the names is there for type checkers alone: the others are
        module = sys.modules.get(annotated.__module__)
        names = {} if module is None else vars(module)
        annotations = getattr(annotated, "__annotations__", {}).values()
        return [hint for each in annotations for hint in _evaluated(each, names)]


def _evaluated(annotation: Any, names: dict[str, Any]) -> list[Any]:
    one = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return list(get_type_hints(one, names).values())
    except Exception:
        return []
