"""What a topic hands to the report: tables, plots, and the ratios that the bars are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.measure import Samples


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: its heading.
        head: the columns' names.
        rows: the cells.
        note: what one has to know to read it.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """Lines over one axis, or bars where ``x`` holds names.

    Attributes:
        name: the file's name without its end.
        title: its heading.
        axes: what x and y are, with units.
        lines: by name, the points of each, x first.
        is_logarithmic: both axes.
    """

    name: str
    title: str
    axes: tuple[str, str]
    lines: Mapping[str, Sequence[tuple[float | str, Samples]]]
    is_logarithmic: bool = True


@dataclass
class Topic:
    """What one topic found.

    Attributes:
        title: its heading.
        text: how it was measured.
        ratios: what bars are about, by the bar's key.
        seconds: how long it took.
    """

    title: str
    text: str
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    ratios: dict[str, Samples] = field(default_factory=dict)
    seconds: float = 0.0


def cell(samples: Samples, factor: float = 1.0) -> str:
    """A median with its quartiles, three digits each."""
    low, high = (_short(value * factor) for value in samples.quartiles)
    return f"{_short(samples.median * factor)} ({low}-{high})"


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
