"""The HTTP API and its pages. A mistake of a client is a 4xx in JSON: {"detail": "cat.txt: not an image: ..."}."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, File, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from src import __version__
from src.core.machine import num_cores
from src.data.images import ImageProblem
from src.pages.page import render
from src.serving.answering import MAX_SHOWN, Answerer
from src.serving.batches import Batches
from src.serving.limits import Door, Limits, Overloaded, Places, busy, problem
from src.serving.uploads import Refused, refusal_of

FORM = "multipart/form-data"
MAX_LOOKS = 8  # requests with saliency at a time
CLIENT_GONE = 499  # as nginx counts it; nobody gets it


class ClassProbability(BaseModel):
    """A class, label or grade, and how probable it is."""

    name: str
    probability: float


class HeadAnswer(BaseModel):
    """What one head of the network says: the likeliest of its classes, most probable first, or a number."""

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


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "Broken multipart/form-data",
        413: "Too many bytes, files or pixels",
        415: "Not multipart/form-data, or not an image",
        422: "No file, an empty file, an image that is cut short, or a wrong value in the address",
        503: "Too many images are waiting, requests open or with saliency; try again in a second",
    }.items()
}


def make_app(answerer: Answerer, limits: Limits, facts: dict[str, Any]) -> Door:
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
    return Door(app, limits)


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
    looks = Places(MAX_LOOKS, "requests with saliency are being answered")

    @app.post("/predict", responses=REFUSALS)
    async def predict(
        request: Request,
        files: Annotated[list[UploadFile], File(description="Images")],
        saliency: Annotated[bool, Query(description="Add where the network looked")] = False,
        all_classes: Annotated[
            bool, Query(alias="all", description=f"All classes, not the {MAX_SHOWN} likeliest")
        ] = False,
    ) -> Answers:
        """Answer one or more images (PNG, JPEG, WebP ...); one that cannot be answered refuses the request."""
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        if len(files) > limits.max_files:
            raise Refused(413, f"{len(files)} files; at most {limits.max_files} are answered at a time")
        names = [upload.filename or f"file {number}" for number, upload in enumerate(files, 1)]
        pictures: Sequence[str | None] = [None] * len(files)
        with looks.one() if saliency else nullcontext():
            decoded = [
                await loop.run_in_executor(decoders, _decoded, answerer, upload, name)
                for upload, name in zip(files, names, strict=True)
            ]
            images = np.stack(decoded)
            predicted = await _while_connected(request, batches.answer(images))
            if saliency:
                pictures = await loop.run_in_executor(looker, answerer.looked_at, images)
        described = answerer.describe(predicted, all_classes)
        found = [
            ImageAnswer(file=name, saliency=picture, **one)
            for name, picture, one in zip(names, pictures, described, strict=True)
        ]
        return Answers(images=found, seconds=round(time.perf_counter() - started, 4))


def _decoded(answerer: Answerer, upload: UploadFile, name: str) -> np.ndarray:
    """Return an image as the networks see it; its bytes are read here, so as many as threads are in memory."""
    try:
        return answerer.read(upload.file.read())
    except ImageProblem as error:
        raise refusal_of(error, name) from error
    except MemoryError as error:
        raise Refused(413, f"{name}: decoding it takes more memory than there is", name) from error


async def _while_connected(request: Request, answer: Coroutine[Any, Any, np.ndarray]) -> np.ndarray:
    """Return the answer; cancel it if the client disconnects, which uvicorn reports but does not act on."""

    async def departure() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answering, leaving = asyncio.create_task(answer), asyncio.create_task(departure())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise Refused(CLIENT_GONE, "the client has gone")
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()


def _handle_errors(app: FastAPI, limits: Limits) -> None:
    """Make every error JSON of the same form."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return problem(error.status, error.detail, error.file)

    @app.exception_handler(Overloaded)
    async def overloaded(_: Request, error: Overloaded) -> JSONResponse:
        return busy(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        given = request.headers.get("content-type", "none").split(";")[0]
        if request.method == "POST" and given != FORM:
            return problem(415, f"content type {given}; send images as {FORM}, in fields called files")
        for one in error.errors():
            if one["loc"][0] == "query":
                return problem(422, f"?{one['loc'][1]}={one['input']}: {one['msg']}")
        return problem(422, "no images: send one or more files in fields called files")

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return problem(500, f"the server failed: {type(error).__name__}; see its log")

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        status, detail = error.status_code, str(error.detail)
        if status == 413:
            detail = limits.too_large
        elif detail.startswith("Too many files"):  # so many that the form itself was not read to its end
            status, detail = 413, f"too many files; at most {limits.max_files} are answered at a time"
        return problem(status, detail, headers=dict(error.headers or {}))
