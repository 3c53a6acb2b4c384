"""The metrics in the table of docs/operations.md."""

import re
from pathlib import Path

OPERATIONS = (Path(__file__).parents[1] / "docs" / "operations.md").read_text()


def documented_metrics() -> dict[str, set[str]]:
    """The metrics in the table of docs/operations.md, each with its labels. A histogram has three series."""
    metrics: dict[str, set[str]] = {}
    for name, labels, kind in re.findall(
        r"^\| `(tickview_\w+)(?:\{([\w,]+)\})?` \| (\w+) \|", OPERATIONS, re.MULTILINE
    ):
        names = set(labels.split(",")) - {""}
        if kind == "histogram":
            metrics |= {f"{name}_bucket": names | {"le"}, f"{name}_count": names, f"{name}_sum": names}
        else:
            metrics[name] = names
    return metrics
