"""Download a competition's files into input/<competition>/, from Kaggle or from the organiser's list of links.

    python -m src.download --competition cifar10                          (its Kaggle competition, by Kaggle's client)
    python -m src.download --competition mine.py --kaggle cassava-leaf-disease-classification
    python -m src.download --links mchar_data_list_0515.csv               (Tianchi's list, for svhn)

Run it again to resume. A file is complete under its name or not there; what has arrived so far waits in .partial/.
"""

from typing import TYPE_CHECKING

from src.config import DownloadConfig
from src.core import cli
from src.core.flags import check_range

if TYPE_CHECKING:
    from pathlib import Path

    from src.competitions.spec import Competition


def main(config: DownloadConfig) -> None:
    """Download what is missing. Raises InputError for links that have expired, a full disk, or no source."""
    from src.competitions.registry import load_competition
    from src.data.prepared import command

    check_range("connections", config.connections, 1, 8)
    competition = load_competition(config.competition)
    folder, links = config.input_dir / competition.input_folder, _links(config, competition)
    if links:
        _from_links(config, links, folder)
    else:
        _from_kaggle(config, competition, folder)
    print(f"next: {command(config, 'prepare')}")


def _links(config: DownloadConfig, competition: "Competition") -> "Path | None":
    """Return the list to use, or None for Kaggle. Raises InputError if there is neither."""
    from src.core.errors import InputError

    if config.links and config.kaggle:
        raise InputError("--links and --kaggle: give one of them")
    if config.links or config.kaggle:
        return config.links
    own = config.input_dir / competition.input_folder / competition.links
    if competition.links and own.is_file():
        return own
    if competition.kaggle:
        return None
    give = f"--links {competition.links or 'FILE'}" if competition.links else "--kaggle NAME or --links FILE"
    raise InputError(f"{competition.name}: no place to download from; give {give}. {competition.source}".strip())


def _from_links(config: DownloadConfig, path: "Path", folder: "Path") -> None:
    from src.handin.downloads import download_links
    from src.handin.links import read_links

    links = read_links(path)
    count = download_links(links, folder, config.connections, config.replace)
    print(f"{folder}: {len(links)} files, {count} of them downloaded now")


def _from_kaggle(config: DownloadConfig, competition: "Competition", folder: "Path") -> None:
    import shutil

    from src.core.locking import locked
    from src.core.reading import DOWNLOAD, PARTIAL
    from src.handin.bundle import is_unsettled, settle
    from src.handin.kaggle import open_kaggle

    client = open_kaggle(config.kaggle or competition.kaggle)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / DOWNLOAD, "is downloading into this folder"):
        there = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if there and not config.replace and not is_unsettled(folder):
            print(f"{folder}: holds files already, such as {there[0].name}; --replace downloads them again")
            return
        for line in settle(client.download(folder / PARTIAL), folder):
            print(line)
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    print(f"{folder}: all files of kaggle.com/c/{client.competition}")


if __name__ == "__main__":
    cli.run(main, DownloadConfig, __doc__)
