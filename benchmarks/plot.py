"""Bars as SVG, where matplotlib is installed (MLflow brings it)."""

from __future__ import annotations

import io
from collections.abc import Mapping


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
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    return out.getvalue()
