"""Try a run on images of one's own: a page to drop or paste them on, and an HTTP API.

    python -m src.serve
    python -m src.serve --competition demo --folds 0 --no-tta --port 8080

Listens on this machine only unless --host says otherwise; Ctrl-C or SIGTERM stops it after the requests it has begun.
Writes nothing. The API is described at /docs.
"""

from src.config import ServeConfig
from src.core import cli
from src.core.errors import InputError
from src.core.flags import check_range

SECONDS_TO_STOP = 10  # that begun requests get


def main(config: ServeConfig) -> None:
    """Serve until a signal. Raises InputError for a run that cannot be used or a port that is taken."""
    from src.core.modules import check_extra

    check_extra("src.serve", "serve", "fastapi", "uvicorn", "python_multipart")
    for flag, value, most in (
        ("port", config.port, 65535), ("max-mb", config.max_mb, 1000), ("max-files", config.max_files, 1000),
        ("max-pixels", config.max_pixels, 1e9), ("max-waiting", config.max_waiting, 1e6),
    ):  # fmt: skip
        check_range(flag, value, 0 if flag == "port" else 1e-3 if flag == "max-mb" else 1, most)

    if config.max_waiting < config.max_files:
        raise InputError(f"--max-waiting {config.max_waiting}: is less than one request's {config.max_files} files")

    import uvicorn

    from src.core.listening import listen
    from src.core.runtime import set_up_process
    from src.core.signals import Stopped
    from src.serving.answering import open_answerer
    from src.serving.app import make_app
    from src.serving.limits import Limits

    set_up_process()
    answerer = open_answerer(config)
    limits = Limits(max_mb=config.max_mb, max_files=config.max_files, max_waiting=config.max_waiting)
    app = make_app(answerer, limits, answerer.facts())
    with listen(config.host, config.port) as (socket, address):
        print(f"{answerer.summary()}\nserving on {address} (API: {address}/docs); Ctrl-C stops it", flush=True)
        settings = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=SECONDS_TO_STOP, access_log=False, ws="none"
        )
        try:
            uvicorn.Server(settings).run(sockets=[socket])
        except Stopped:  # uvicorn has ended its requests and passes the signal on
            print("stopped", flush=True)


if __name__ == "__main__":
    cli.run(main, ServeConfig, __doc__)
