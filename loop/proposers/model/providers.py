"""Language models by name (`anthropic:…`, `openai:…`, `google:…`), and what their errors mean for a person.

Keys and base URLs are in the environment, under the names that the providers gave them. pydantic-ai is
imported by the functions only, which run in a worker process.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loop.experiment import Cost
from loop.proposers.prompt.history import SAID
from loop.proposers.protocol import NoProgramError, ProposalError, UnavailableError
from loop.text import one_line

if TYPE_CHECKING:
    import httpx2
    from pydantic_ai.models import Model

EXTRA = "autoresearch-bot[models]"  # what installs all that a language model needs
_LONGEST_WAIT = 15.0  # seconds that an SDK may wait before it tries again; a longer wait is the loop's
_CONNECT = 10.0  # seconds to reach a provider
_OPENAI = "api.openai.com"
_KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY", "google": "GOOGLE_API_KEY"}
_URLS = {"anthropic": "ANTHROPIC_BASE_URL", "openai": "OPENAI_BASE_URL", "google": "GOOGLE_GEMINI_BASE_URL"}


def model_name(name: str) -> str:
    return name.partition(":")[2] or name


@asynccontextmanager
async def http_client(limit: float) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client for the SDKs whose requests have `limit` seconds; it lets them wait briefly only."""
    import httpx2
    from pydantic_ai.models import create_async_httpx2_client

    async def leave_long_waits(response: httpx2.Response) -> None:
        try:
            wait = float(response.headers.get("retry-after", 0))
        except ValueError:  # a date
            wait = math.inf
        if wait > _LONGEST_WAIT:
            response.headers["x-should-retry"] = "false"  # the SDKs that would wait so long obey it

    timeout = httpx2.Timeout(limit, connect=_CONNECT)
    async with create_async_httpx2_client(timeout=timeout) as client:
        client.event_hooks["response"].append(leave_long_waits)
        yield client


def is_own_server(name: str, environ: Mapping[str, str]) -> bool:
    """Return whether the model is on another server with OpenAI's interface: it may know no tools."""
    host = urlsplit(environ.get("OPENAI_BASE_URL", "")).hostname
    return name.startswith("openai:") and host not in (None, _OPENAI)


def open_model(name: str, environ: Mapping[str, str], client: httpx2.AsyncClient) -> Model:
    from pydantic_ai.models import infer_model
    from pydantic_ai.providers import infer_provider_class

    kind = name.partition(":")[0]
    key, url = environ.get(_KEYS[kind]), environ.get(_URLS[kind]) or None
    if url and is_own_server(name, environ):
        return _on_own_server(model_name(name), url, key, client)
    if not key:
        raise UnavailableError(f"{_KEYS[kind]} is not set: add it to .env.", needs_person=True)
    provider: Any = infer_provider_class(kind)  # all three take these
    return infer_model(name, lambda _: provider(api_key=key, base_url=url, http_client=client))


def _on_own_server(model: str, url: str, key: str | None, client: httpx2.AsyncClient) -> Model:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    own = OpenAICompatibleProvider(
        urlsplit(url).hostname or url,
        base_url=url,
        api_key=key,
        http_client=client,
        profile=OpenAIModelProfile(  # what not every server understands
            supports_json_object_output=False, openai_chat_supports_multiple_system_messages=False
        ),
    )
    return OpenAIChatModel(model, provider=own)


def failures() -> tuple[type[Exception], ...]:
    """Return the errors of a call that are no bug of ours."""
    from pydantic_ai.exceptions import AgentRunError, UserError

    return AgentRunError, UserError, TimeoutError


def explained(error: Exception, name: str, *, limit: float, cost: Cost | None) -> ProposalError:
    """Return one of `failures` as a sentence for a person. It may repeat words of the provider's."""
    from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, UnexpectedModelBehavior

    model = model_name(name)
    if isinstance(error, UnexpectedModelBehavior):
        return NoProgramError(f"{model} proposed no valid program. {_words(error)}", cost=cost)
    wait = error.retry_after if isinstance(error, ModelAPIError) else None
    meaning, needs_person = _meaning(error, name, limit, wait)
    status = f" ({error.status_code})" if isinstance(error, ModelHTTPError) else ""
    return UnavailableError(
        f"{meaning}{status}. {_words(error)}".strip(),
        cost=cost,
        retry_after=wait,
        needs_person=needs_person,
        cut_off=isinstance(error, TimeoutError),
    )


def _meaning(error: Exception, name: str, limit: float, wait: float | None) -> tuple[str, bool]:
    from pydantic_ai import exceptions as of

    model, key = model_name(name), _KEYS[name.partition(":")[0]]
    retry = f", retry after {wait:g} s" if wait else ""
    kinds: Sequence[tuple[tuple[type[Exception], ...], str, bool]] = (
        ((of.ModelAuthenticationError,), f"{key} is refused by the provider of {model}", True),
        ((of.ModelQuotaExceededError,), f"The account for {model} is out of credit or quota", True),
        ((of.ModelNotFoundError,), f"{model} is unknown to its provider", True),
        (
            (of.ModelContextWindowExceededError,),
            f"The prompt is too long for {model}: lower CONTEXT_TOKENS",
            True,
        ),
        ((of.ModelRateLimitError,), f"{model} is rate-limited{retry}", False),
        ((of.ModelUnavailableError, of.ModelServerError), f"{model} is down or overloaded", False),
        (
            (of.ModelRequestTimeout, of.ModelTimeoutError, TimeoutError),
            f"{model} did not answer within {limit:g} s",
            False,
        ),
        ((of.ModelConnectionError,), f"The connection to {model} failed", False),
        ((of.ModelAPIError,), f"{model} refused the request", False),
        ((of.UsageLimitExceeded,), f"{model} exceeded the token limit of an answer", False),
    )
    found = (found for kind, *found in kinds if isinstance(error, kind))
    meaning, needs_person = next(found, (f"{model} failed", False))
    return str(meaning), bool(needs_person)


def _words(error: Exception) -> str:
    from pydantic_ai.exceptions import ModelAPIError

    body = getattr(error, "body", None)
    for name in ("error", "message"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    if isinstance(body, str) and body:
        return one_line(body, SAID)
    cause: BaseException = error
    while cause.__cause__ is not None and str(cause.__cause__):
        cause = cause.__cause__
        if not isinstance(error, ModelAPIError):
            break  # deeper lies how pydantic found what was wrong
    return one_line(str(cause).partition("For further information")[0], SAID)
