"""The HTTP service: routes, answers and errors. Nothing here knows a model."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from shelftalk import __version__
from shelftalk.errors import BadRequest, ShelftalkError, UnknownItem
from shelftalk.records import Ranking, Text
from shelftalk.serving import messages as m
from shelftalk.serving.answering import NotOffered, Task
from shelftalk.serving.engine import Overloaded, TooLate
from shelftalk.serving.guarding import Guard, Keys
from shelftalk.serving.meters import Log, Meters
from shelftalk.serving.service import Service, Wanted, expiry
from shelftalk.serving.store import ConflictingEvent, Event, StoredItem, StoreUnavailable

ItemId = Annotated[str, Path(min_length=1, max_length=512, pattern=m.NO_NUL, description="The item's id.")]
UserKey = Annotated[str, Path(min_length=1, max_length=512, pattern=m.NO_NUL, description="The user's key.")]
STATUSES: tuple[tuple[type[ShelftalkError], int, str], ...] = (
    (UnknownItem, 404, "unknown_item"),
    (ConflictingEvent, 409, "conflict"),
    (Overloaded, 429, "overloaded"),
    (NotOffered, 501, "not_offered"),
    (StoreUnavailable, 503, "store_unavailable"),
    (TooLate, 504, "too_late"),
    (ShelftalkError, 422, "invalid"),
)
"""The first row that fits an error is its answer."""
EVERYWHERE = {400: "No JSON.", 401: "No key.", 408: "Too slow.", 413: "Too large.", 415: "No JSON.",
              421: "Wrong host.", 422: "Invalid.", 500: "A defect of the service."}  # fmt: skip
ASKING = {404: "An unknown item.", 429: "Too many wait.", 501: "The model does not offer it.",
          503: "The store does not answer.", 504: "Too late."}  # fmt: skip
STORING = {404: "Not there.", 409: "A conflict.", 503: "The store does not answer."}
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(
    service: Service,
    meters: Meters,
    log: Log,
    keys: Keys | None = None,
    hosts: Sequence[str] = (),
    log_bodies: bool = False,
) -> Guard:
    """The whole application, for an ASGI server. `hosts`: the names that it may be called by, none for any.
    The engine must have been started; shutting the application down closes the service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        done = await run_in_threadpool(service.close)
        log.write("stopped", all_answered=done)

    app = FastAPI(
        title="shelftalk",
        version=__version__,
        description="Recommendations by a language model of a catalogue that changes while it is served.",
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts of another host
        redoc_url=None,
        openapi_url="/openapi.json",
        responses=_errors(EVERYWHERE),
    )
    _add_questions(app, service)
    _add_items(app, service)
    _add_users(app, service)
    _add_operations(app, service, meters, log)
    _add_errors(app, log)
    guard = Guard(app, meters, log, keys or Keys(), service.settings.max_body, hosts, log_bodies)
    guard.fastapi = app  # type: ignore[attr-defined]
    return guard


def _errors(statuses: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": m.ErrorAnswer, "description": text} for status, text in statuses.items()}


# --- questions ------------------------------------------------------------------------------------------


def _add_questions(app: FastAPI, service: Service) -> None:
    asking = _errors(ASKING)

    @app.post("/v1/recommend", responses=asking)
    async def recommend(request: Request, question: m.RecommendQuestion) -> m.ListAnswer:
        """The k items that come next, best first."""
        _check_limit("k", question.k, service.settings.max_k)
        wanted = question.wanted(
            k=question.k, filter=m.filter_of(question.filter), excluded=question.excluded
        )
        return _list(service, wanted, await _ask(request, service, "recommend", wanted))

    @app.post("/v1/rank", responses=asking)
    async def rank(request: Request, question: m.RankQuestion) -> m.ListAnswer:
        """The candidates, likeliest first."""
        _check_limit("candidates", len(question.candidates), service.settings.max_candidates)
        wanted = question.wanted(candidates=question.candidates)
        return _list(service, wanted, await _ask(request, service, "rank", wanted))

    @app.post("/v1/rate", responses=asking)
    async def rate(request: Request, question: m.RateQuestion) -> m.RateAnswer:
        """The rating that would be given to an item."""
        wanted = question.wanted(item=question.item, ratings=question.ratings)
        rating = await _ask(request, service, "rate", wanted)
        return m.RateAnswer(model=_model(service, wanted), item=question.item, rating=float(rating))

    @app.post("/v1/similar", responses=asking)
    async def similar(request: Request, question: m.SimilarQuestion) -> m.ListAnswer:
        """The items nearest to one, by what the model has of them."""
        _check_limit("k", question.k, service.settings.max_k)
        wanted = Wanted((), k=question.k, item=question.item, model=question.model)
        return _list(service, wanted, await _ask(request, service, "similar", wanted))

    @app.post("/v1/why", responses=asking)
    async def why(request: Request, question: m.WhyQuestion) -> m.WhyAnswer:
        """By how much the score of an item falls when each entry of the history is left out."""
        wanted = question.wanted(item=question.item)
        answer = await _ask(request, service, "why", wanted)
        entries = [one.entry for one in answer.contributions]
        titles = service.catalogue.titles(entries)
        reasons = tuple(
            m.Reason(
                entry=str(one.entry), title="" if isinstance(one.entry, Text) else title, fall=float(one.fall)
            )
            for one, title in zip(answer.contributions, titles, strict=True)
        )
        return m.WhyAnswer(
            model=_model(service, wanted), item=question.item, score=float(answer.score), reasons=reasons
        )


async def _ask(request: Request, service: Service, task: Task, wanted: Wanted) -> Any:
    """The answer, in time. Raises TooLate, and whatever the service and the model raise."""
    if wanted.history is None and wanted.user is None:
        raise BadRequest("the question has neither a history nor a user; give one of them, [] for nobody.")
    _check_limit("history", len(wanted.history or ()), service.settings.max_history)
    arrived: float = request.state.arrived
    try:
        if wanted.user is None:
            future = service.ask(task, wanted, arrived)
        else:  # reads the store
            future = await run_in_threadpool(service.ask, task, wanted, arrived)
    except Overloaded:
        await service.refusals.pause()
        raise
    left = arrived + service.settings.seconds - time.monotonic()
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), max(0.0, left))
    except TimeoutError:
        raise TooLate(
            f"there was no answer within {service.settings.seconds:g} seconds; try again, or ask for less."
        ) from None


def _check_limit(name: str, value: int, limit: int) -> None:
    if value > limit:
        raise BadRequest(f"{name} is {value:,}, and this service takes at most {limit:,}; ask for less.")


def _model(service: Service, wanted: Wanted) -> str:
    return wanted.model or service.engine.models[0]


def _list(service: Service, wanted: Wanted, ranking: Ranking) -> m.ListAnswer:
    rows = zip(ranking.items, service.catalogue.titles(ranking.items), ranking.scores, strict=True)
    items = tuple(m.Scored(item=item, title=title, score=float(score)) for item, title, score in rows)
    return m.ListAnswer(model=_model(service, wanted), items=items)


# --- items ----------------------------------------------------------------------------------------------


def _add_items(app: FastAPI, service: Service) -> None:
    storing = _errors(STORING)

    @app.get("/v1/items", responses=storing)
    def items(
        text: Annotated[str, Query(max_length=200, description="Words that an item holds.")] = "",
        limit: Annotated[int, Query(ge=1, le=100, description="How many.")] = 20,
        offset: Annotated[int, Query(ge=0, le=10**9, description="From which on.")] = 0,
    ) -> m.ItemsAnswer:
        """Search the catalogue: items that hold every word."""
        service.sync()
        shown, total = service.catalogue.search(text, limit, offset)
        return m.ItemsAnswer(total=total, items=tuple(map(m.item_answer, shown)))

    @app.post("/v1/items", responses=storing)
    def put_items(message: m.ItemsMessage) -> m.ItemsAnswer:
        """Add or change items, all or none. They can be recommended as soon as this is answered."""
        now = time.time()
        written = service.put_items([item.stored(item.id, now) for item in message.items])
        return m.ItemsAnswer(total=len(written), items=tuple(map(m.item_answer, written)))

    @app.get("/v1/items/{item_id:path}", responses=storing)
    def item(item_id: ItemId) -> m.ItemAnswer:
        """One item."""
        return m.item_answer(service.item(item_id))

    @app.put("/v1/items/{item_id:path}", responses=storing)
    def put_item(item_id: ItemId, message: m.ItemTexts) -> m.ItemAnswer:
        """Add an item, or replace it as a whole."""
        (written,) = service.put_items([message.stored(item_id, time.time())])
        return m.item_answer(written)

    @app.patch("/v1/items/{item_id:path}", responses=storing)
    def change_item(item_id: ItemId, message: m.ItemChange) -> m.ItemAnswer:
        """Change some of an item: hide it or show it again, let it expire, correct its title."""
        return m.item_answer(service.change_item(item_id, lambda stored: _changed(stored, message)))

    @app.delete("/v1/items/{item_id:path}", status_code=204, responses=storing)
    def remove_item(item_id: ItemId) -> Response:
        """Take an item out of the catalogue. One that is not there is none to remove."""
        service.remove_item(item_id)
        return Response(status_code=204)


def _changed(stored: StoredItem, message: m.ItemChange) -> StoredItem:
    given = message.model_fields_set
    texts = {
        name: getattr(message, name)
        for name in ("title", "brand", "categories", "description")
        if getattr(message, name) is not None
    }
    if "price" in given:
        texts["price"] = message.price
    changed = replace(stored, item=replace(stored.item, **texts))
    if message.hidden is not None:
        changed = replace(changed, hidden=message.hidden)
    return expiry(changed, message.expires_in) if "expires_in" in given else changed


# --- events and users -----------------------------------------------------------------------------------


def _add_users(app: FastAPI, service: Service) -> None:
    storing = _errors(STORING)

    @app.post("/v1/events", responses=storing)
    def events(message: m.EventsMessage) -> m.EventsAnswer:
        """Append events, all or none, each once by its key."""
        return m.EventsAnswer(new=service.add_events([one.event() for one in message.events]))

    @app.get("/v1/users/{user:path}", responses=storing)
    def user_data(user: UserKey) -> m.UserAnswer:
        """Everything that is kept of a user."""
        kept: Sequence[Event] = service.store.export_user(user)
        return m.UserAnswer(user=user, events=m.user_events(kept))

    @app.delete("/v1/users/{user:path}", responses=storing)
    def delete_user(user: UserKey) -> m.DeletedAnswer:
        """Delete everything that is kept of a user, for good."""
        return m.DeletedAnswer(deleted=service.store.delete_user(user))


# --- operations -----------------------------------------------------------------------------------------


def _add_operations(app: FastAPI, service: Service, meters: Meters, log: Log) -> None:
    @app.get("/v1/models")
    def models() -> m.ModelsAnswer:
        """The models, the default one first."""
        return m.ModelsAnswer(models=tuple(_model_answer(service, name) for name in service.engine.models))

    @app.post("/v1/reload", responses=_errors({503: "The store does not answer."}))
    def reload(message: m.ReloadMessage) -> m.ModelAnswer:
        """Open a model's folder again and let it answer from then on; no question is lost."""
        model = service.reload(message.model)
        log.write("reloaded", model=model.name, version=model.version)
        return _model_answer(service, message.model or service.engine.models[0])

    @app.get("/health")
    async def health() -> m.StateAnswer:
        """Whether the process lives."""
        return m.StateAnswer(state="ok")

    @app.get("/ready", responses=_errors({503: "Not ready."}))
    def ready() -> m.StateAnswer:
        """Whether the process should be sent requests: it answers, and its store does."""
        if service.draining or not service.engine.is_working:
            raise StoreUnavailable("the process is going to end; ask another one.")
        service.store.last_change()
        return m.StateAnswer(state="ok")

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """Counters in Prometheus' text format."""
        text = meters.text(service.catalogue.counts(time.time()))
        return Response(text, media_type="text/plain; version=0.0.4")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        html, policy = _page()
        headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        }
        return HTMLResponse(html, headers=headers)


def _model_answer(service: Service, name: str) -> m.ModelAnswer:
    answers: Any = service.engine.answers_of(name)
    return m.ModelAnswer(model=name, kind=answers.name, version=answers.version, tasks=answers.tasks)


@cache
def _page() -> tuple[str, str]:
    """The page, and a policy that lets its own script and style run and nothing else."""
    html = (files("shelftalk.serving") / "page" / "page.html").read_text("utf-8")
    hashes = {}
    for name in ("script", "style"):
        (inside,) = re.findall(rf"<{name}>(.*?)</{name}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        hashes[name] = f"sha256-{digest}"
    return html, POLICY.format(**hashes)


# --- errors ---------------------------------------------------------------------------------------------


def _add_errors(app: FastAPI, log: Log) -> None:
    def answer(request: Request, status: int, code: str, text: str, **headers: str) -> JSONResponse:
        error = m.ErrorText(code=code, message=text, request_id=request.state.request_id)
        return JSONResponse({"error": error.model_dump()}, status, headers=headers)

    @app.exception_handler(ShelftalkError)
    async def ours(request: Request, error: ShelftalkError) -> JSONResponse:
        status, code = next((status, code) for kind, status, code in STATUSES if isinstance(error, kind))
        after = {"retry-after": str(getattr(error, "retry_after", 1))} if status in (429, 503, 504) else {}
        if status == 503:
            log.write("store", message=str(error), request_id=request.state.request_id)
        return answer(request, status, code, str(error), **after)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, 422, "invalid", _sentence(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "no_such_path", 405: "no_such_method"}.get(error.status_code, "refused")
        text = {
            "no_such_path": "there is nothing at this address; /openapi.json lists the addresses.",
            "no_such_method": "this address is not called so; /openapi.json lists how.",
        }.get(code, str(error.detail))
        return answer(request, error.status_code, code, text, **dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        # the kind alone: its text may quote a history
        log.write(
            "defect", kind=type(error).__name__, where=_where(error), request_id=request.state.request_id
        )
        return answer(request, 500, "defect", "the service failed; its log has the request id.")


def _sentence(error: RequestValidationError) -> str:
    """The first thing that is wrong, and how many more there are, without the value that was sent."""
    first, *others = error.errors()
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    more = f" (and {len(others)} more)" if others else ""
    return f"{where[:200]}: {first['msg'][:200]}{more}; /openapi.json says what belongs there."


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
