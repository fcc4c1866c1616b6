"""What `speed.py` found as a picture: seconds a picture of each way, and what arithmetic alone would take.

    python benchmarks/plot_speed.py speed.json speed.svg

Needs matplotlib, which is not in requirements.txt. The ending of the second name decides what is written.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

COLOURS = {"stock": "#9aa5b1", "stock compiled": "#9aa5b1"}  # what is not ours
OURS = "#2f6f9f"
plt.rcParams |= {
    "svg.fonttype": "none",
    "svg.hashsalt": "speed",
}  # words as words, and the same file from the same numbers


def plot(found: dict[str, Any], file: Path) -> None:
    """`found` as `speed.py --output` writes it."""
    ways = dict(sorted(found["ways"].items(), key=lambda way: -way[1]["picture_s"]))
    least = found["steps"] * found["tflop_per_step"] / found["matrix_tflops"]
    figure, axes = plt.subplots(figsize=(7, 0.55 * len(ways) + 1.2), layout="constrained")
    lengths = [figures["picture_s"] for figures in ways.values()]
    bars = axes.barh(list(ways), lengths, color=[COLOURS.get(name, OURS) for name in ways])
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.axvline(least, color="#c0392b", linestyle="--")
    axes.annotate(f"arithmetic alone: {least:.2f}", (least, -0.62), color="#c0392b", fontsize=8, annotation_clip=False)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"seconds a picture of {found['steps']} steps, {found['card']}, torch {found['torch']}")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    plot(json.loads(arguments.found.read_text()), arguments.picture)


if __name__ == "__main__":
    main()
