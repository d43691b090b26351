"""A search made by hand, so that its study can be told of trials that nobody trained."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from src.competitions.registry import load_competition
from src.config import Paths, SearchConfig
from src.searching.inner import Inner
from src.searching.space import read_space
from src.searching.study import ask
from src.searching.trials import Search


def make_search(folder: Path, *space: str, **flags: Any) -> Search:
    """Return a search of svhn in a folder, whose images are not there."""
    prepared: Any = SimpleNamespace(root=folder, competition=load_competition("svhn"), labels=range(1234))
    inner = Inner(
        paths=Paths(competition="svhn", runs_dir=folder / "trials"), prepared=prepared, num_folds=5, folds=(0,)
    )
    config = SearchConfig(competition="svhn", space=space, **flags)
    return Search(config=config, folder=folder, space=read_space(space), inner=inner)


def begun(study: Any, search: Search, worker: int = 0) -> Any:
    """Return the next trial, which is being trained from now on."""
    trial = ask(study, search.space, search.file, search.config.trials, 0, worker)
    assert trial is not None
    return trial
