"""Put runs of a competition side by side: scores, times, settings, curves, images that only one of them gets right.

    python -m src.compare baseline resnet
    python -m src.compare --competition demo      (all runs; seconds on a CPU)

Every run is compared with the first one named, or with the best, on the out-of-fold images that both answered. Prints
a table and writes runs/<competition>/compare.html.
"""

from src.config import CompareConfig
from src.core import cli
from src.core.flags import check_range


def main(config: CompareConfig) -> None:
    """Compare runs. Raises InputError for a run that is missing or damaged."""
    import pandas as pd

    from src.core.writing import write_text
    from src.metrics import direction, metric_of
    from src.report.compare_page import page
    from src.report.side_by_side import against_first, open_sides, settings_lines, table_of

    check_range("num-images", config.num_images, 0, 500)
    sides, notes = open_sides(config)
    others = against_first(sides)
    competition = sides[0].run.competition
    print(f"out-of-fold {metric_of(competition).name.replace('_', ' ')}{direction(competition)}")
    print(pd.DataFrame(table_of(sides, others)).to_string(index=False))
    print("\n".join(settings_lines(sides)))
    for one in others:
        said = [one.why] if one.pair is None else list(one.pair.notes)
        if one.difference and one.difference.p_value is not None:
            said.append(f"McNemar's exact test: p = {one.difference.p_value:.2g}")
        print("\n".join(f"{one.side.name}: {text}" for text in said), end="\n" * bool(said))
    for note in notes:
        print(f"note: {note}")
    if len(sides) > 2:
        print("note: the best of several runs looks better than it is, the more of them were tried")
    path = sides[0].run.prepared.root / "compare.html"
    write_text(path, page(sides, others, notes, config.num_images))
    print(f"page: {path}")


if __name__ == "__main__":
    cli.run(main, CompareConfig, __doc__)
