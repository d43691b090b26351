"""Follow a training in the browser, from its files alone: it may run elsewhere, as long as they are seen here.

    python -m src.watch baseline
    python -m src.watch baseline --competition demo --once page.html      (seconds; writes the page and ends)

Shows progress and time left, curves of loss, score, learning rate, speed and memory of all folds, and what was printed
last. Ends with Ctrl-C; the training does not notice. Writes nothing, with --once that file.
"""

from src.config import WatchConfig
from src.core import cli
from src.core.flags import check_range


def main(config: WatchConfig) -> None:
    """Serve the page until stopped. Raises InputError for an unknown run, or an address that cannot be used."""
    from src.competitions.registry import load_competition
    from src.core.errors import InputError
    from src.core.listening import listen
    from src.core.signals import Stopped
    from src.core.writing import write_text
    from src.runs.paths import run_names
    from src.watching.server import make_server, page

    check_range("port", config.port, 0, 65535)
    root = config.runs_dir / load_competition(config.competition).name
    runs = run_names(root, staged=True)
    if config.run_name not in runs:
        raise InputError(
            f"{root / config.run_name}: no such run; there are: {', '.join(runs) or 'none, train one first'}"
        )
    if config.once:
        if config.once.is_dir():
            raise InputError(f"--once {config.once}: is a folder; give a file, such as {config.once / 'page.html'}")
        write_text(config.once, page(root / config.run_name, live=False))
        print(f"page: {config.once}")
        return
    with listen(config.host, config.port) as (socket, address), make_server(root / config.run_name, socket) as server:
        print(f"watching {root / config.run_name} at {address}/ until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except Stopped:
            print("stopped watching; training continues")


if __name__ == "__main__":
    cli.run(main, WatchConfig, __doc__)
