"""The HTTP API and its pages. A mistake of a client is a 4xx in JSON: {"detail": "cat.txt: not an image: ..."}."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, File, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from src import __version__
from src.core.runtime import num_cores
from src.data.images import ImageProblem
from src.pages.page import render
from src.serving.answering import Answerer
from src.serving.batches import Batches, Overloaded
from src.serving.uploads import Refused, refusal_of

FORM = "multipart/form-data"
MAX_LOOKS = 8  # requests with saliency at a time


class ClassProbability(BaseModel):
    """A class, label or grade, and how probable it is."""

    name: str
    probability: float


class HeadAnswer(BaseModel):
    """What one head of the network says: the likeliest of its classes, or a number."""

    name: str
    kind: str = Field(description="class, labels, ordinal or number")
    probabilities: list[ClassProbability] | None = None
    value: float | None = None


class ImageAnswer(BaseModel):
    """What is answered for one image."""

    file: str
    answer: str = Field(description="As a submission would write it")
    heads: list[HeadAnswer]
    saliency: str | None = Field(None, description="A PNG as data URL: dark is what did not matter")


class Answers(BaseModel):
    """One answer for each file, in order."""

    images: list[ImageAnswer]
    seconds: float = Field(description="From the request's last byte to this answer")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
    file: str | None = Field(None, description="The file that is at fault, if it is one file")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask for."""

    max_mb: float
    max_files: int
    max_waiting: int

    @property
    def max_bytes(self) -> int:
        return int(self.max_mb * 1e6)

    @property
    def too_large(self) -> str:
        return f"the request has more than {self.max_mb:g} MB"


class AnnouncedBodies:
    """ASGI middleware that refuses a body by its announced length; FastAPI would answer in plain text."""

    def __init__(self, app: Any, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        announced = dict(scope.get("headers", ())).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self.limits.max_bytes:
            await _problem(413, self.limits.too_large)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def make_app(answerer: Answerer, limits: Limits, facts: dict[str, Any]) -> AnnouncedBodies:
    """Return the application; `facts` of the run are shown on its page and by GET /health."""
    batches = Batches(answerer.predict, limits.max_waiting)
    decoders = ThreadPoolExecutor(num_cores(), thread_name_prefix="decode")  # each may hold an image of max_pixels
    looker = ThreadPoolExecutor(1, thread_name_prefix="saliency")  # slow: others' images are decoded meanwhile

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batches.close)
        decoders.shutdown()
        looker.shutdown()

    app = FastAPI(
        title=f"Podium: {facts['competition']}, {facts['run']}",
        version=__version__,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        max_body_size=limits.max_bytes,
    )
    _handle_errors(app, limits)
    _add_pages(app, limits, batches, facts)
    _add_predict(app, limits, batches, answerer, decoders, looker)
    return AnnouncedBodies(app, limits)


def _add_pages(app: FastAPI, limits: Limits, batches: Batches, facts: dict[str, Any]) -> None:
    """Add what is looked at: the page, the API's description, the state."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return render("try.html", title=app.title, facts=facts, limits=limits, charts=False)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def docs() -> str:
        return render("api.html", title=f"{app.title}: API", schema=app.openapi(), charts=False)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether the server answers, and with what."""
        return {"status": "ok", "waiting": len(batches.waiting), **facts}


def _add_predict(
    app: FastAPI,
    limits: Limits,
    batches: Batches,
    answerer: Answerer,
    decoders: ThreadPoolExecutor,
    looker: ThreadPoolExecutor,
) -> None:
    """Add POST /predict."""
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": text}
        for status, text in {
            413: "Too many bytes, files or pixels",
            415: "Not multipart/form-data, or not an image",
            422: "No file, an empty file, or an image that is cut short",
            503: "Too many images are waiting; try again in a second",
        }.items()
    }

    looking = 0  # requests with saliency that wait or are answered

    @app.post("/predict", responses=refusals)
    async def predict(
        files: Annotated[list[UploadFile], File(description="Images")], saliency: bool = False
    ) -> Answers:
        """Answer one or more images (PNG, JPEG, WebP ...); one that cannot be answered refuses the request.

        `?saliency=true` adds where the network looked.
        """
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        if len(files) > limits.max_files:
            raise Refused(413, f"{len(files)} files; at most {limits.max_files} are answered at a time")
        names, images = [upload.filename or f"file {number}" for number, upload in enumerate(files, 1)], []
        for name, upload in zip(names, files, strict=True):
            data = await upload.read()
            images.append(await loop.run_in_executor(decoders, _decoded, answerer, data, name))
        predicted = await batches.answer(np.stack(images))
        described = answerer.describe(predicted)
        if saliency:
            nonlocal looking
            if looking == MAX_LOOKS:
                raise Overloaded
            looking += 1
            try:
                pictures = await loop.run_in_executor(looker, answerer.looked_at, np.stack(images))
            finally:
                looking -= 1
            described = [one | {"saliency": picture} for one, picture in zip(described, pictures, strict=True)]
        found = [ImageAnswer(file=name, **one) for name, one in zip(names, described, strict=True)]
        return Answers(images=found, seconds=round(time.perf_counter() - started, 4))


def _decoded(answerer: Answerer, data: bytes, name: str) -> np.ndarray:
    try:
        return answerer.read(data)
    except ImageProblem as problem:
        raise refusal_of(problem, name) from problem
    except MemoryError as error:
        raise Refused(413, f"{name}: decoding it takes more memory than there is", name) from error


def _problem(status: int, detail: str, file: str | None = None) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse({"detail": detail, "file": file}, status, headers)


def _handle_errors(app: FastAPI, limits: Limits) -> None:
    """Make every error JSON of the same form."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return _problem(error.status, error.detail, error.file)

    @app.exception_handler(Overloaded)
    async def overloaded(_: Request, __: Overloaded) -> JSONResponse:
        return _problem(503, f"{limits.max_waiting} images are waiting; try again in a second")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, _: RequestValidationError) -> JSONResponse:
        given = request.headers.get("content-type", "none").split(";")[0]
        if request.method == "POST" and given != FORM:
            return _problem(415, f"content type {given}; send images as {FORM}, in fields called files")
        return _problem(422, "no images: send one or more files in fields called files")

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return _problem(500, f"the server failed: {type(error).__name__}; see its log")

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        return _problem(error.status_code, limits.too_large if error.status_code == 413 else str(error.detail))
