"""The plots, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl  # pyright: ignore[reportMissingImports]
from matplotlib.axes import Axes  # pyright: ignore[reportMissingImports]
from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

from benchmarks.results import Plot

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "bgadapters", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10}
)


def write(plots: Iterable[Plot], folder: Path) -> None:
    """Write each plot into a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        has_names = any(isinstance(x, str) for points in plot.lines.values() for x, _ in points)
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.add_subplot()
        (_bars if has_names else _lines)(axes, plot)
        axes.set_title(plot.title)
        axes.legend(fontsize=8, frameon=False)
        axes.grid(visible=True, alpha=0.3)
        figure.savefig(folder / f"{plot.name}.svg", metadata={"Date": None, "Creator": None})


def _lines(axes: Axes, plot: Plot) -> None:
    for name, points in plot.lines.items():
        x = [float(x) for x, _ in points]
        middle = [samples.median for _, samples in points]
        (line,) = axes.plot(x, middle, marker="o", markersize=3, label=name)
        low, high = zip(*(samples.quartiles for _, samples in points), strict=True)
        axes.fill_between(x, low, high, alpha=0.2, color=line.get_color())
    if plot.is_logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlabel(plot.axes[0])
    axes.set_ylabel(plot.axes[1])


def _bars(axes: Axes, plot: Plot) -> None:
    places = list(dict.fromkeys(str(x) for points in plot.lines.values() for x, _ in points))
    height = 0.8 / len(plot.lines)
    for number, (name, points) in enumerate(plot.lines.items()):
        y = [places.index(str(x)) + number * height for x, _ in points]
        axes.barh(y, [samples.median for _, samples in points], height, label=name)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(places))], places)
    axes.invert_yaxis()
    if plot.is_logarithmic:
        axes.set_xscale("log")
    axes.set_xlabel(plot.axes[1])
