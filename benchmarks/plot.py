"""Bars and lines as SVG, where matplotlib is installed (MLflow brings it)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any


def lines(
    title: str, across: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], marker: str = "o"
) -> str:
    """A panel for each figure, a line for each contender, the first of them ours; "" without matplotlib."""
    try:
        import matplotlib as mpl

        mpl.use("svg")
        from matplotlib import pyplot as plt
    except ImportError:
        return ""
    mpl.rcParams["svg.hashsalt"] = "wye"
    figure, drawn = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6))
    for panel, (name, contenders) in zip(drawn, panels.items(), strict=True):
        for number, (contender, points) in enumerate(contenders.items()):
            colour = "#1a7f5a" if number == 0 else ("#9aa5b1", "#c98a3d", "#7a6fb0")[(number - 1) % 3]
            panel.plot(*zip(*points, strict=True), marker=marker, label=contender, color=colour)
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xlabel(across, fontsize=9)
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
    if any(len(contenders) > 1 for contenders in panels.values()):
        drawn[0].legend(fontsize=8, frameon=False)
    return _svg(plt, figure, title)


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Horizontal bars on a logarithmic scale, a panel for each group; "" without matplotlib."""
    try:
        import matplotlib as mpl

        mpl.use("svg")
        from matplotlib import pyplot as plt
    except ImportError:
        return ""
    mpl.rcParams["svg.hashsalt"] = "wye"  # the same figures make the same file
    longest = max(len(group) for group in groups.values())
    figure, panels = plt.subplots(len(groups), 1, figsize=(8, 0.5 + len(groups) * (0.5 + 0.35 * longest)), sharex=True)
    for panel, (name, group) in zip(panels, groups.items(), strict=True):
        drawn = panel.barh(list(group), list(group.values()), color=["#1a7f5a", *["#9aa5b1"] * (len(group) - 1)])
        panel.bar_label(drawn, labels=[f"{value:,.0f}" for value in group.values()], padding=3)
        panel.set_xscale("log")
        panel.invert_yaxis()
        panel.set_title(name, loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.15)
    return _svg(plt, figure, title)


def _svg(plt: Any, figure: Any, title: str) -> str:
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    return out.getvalue()
