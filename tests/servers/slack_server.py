"""Slack on loopback: its Web API and its Socket Mode, as strict as the real ones, with faults on demand."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from tests.servers import slack_payloads as payloads
from tests.servers.ports import free_port
from tests.servers.slack_rules import refusal, view_refusal
from tests.servers.slack_socket_mode import SocketMode
from tests.servers.slack_workspace import CHANNEL, CHAT, Call, Workspace

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call: a refusal, an answer of a proxy, or none at all."""

    word: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    kind: str = "text/html"
    lost: bool = False  # the call is obeyed, but the connection breaks before the answer
    silent: bool = False


LIMITED = Fault(word="ratelimited", status=429, headers={"Retry-After": "1"})
LOST = Fault(lost=True)
SILENT = Fault(silent=True)


class SlackServer:
    """Answers as Slack does, and records what it was asked, in order.

    `faults` holds for each method what goes wrong with its next calls. `closed` goes wrong with every call
    about a channel as long as it is set; while `silent` every call is accepted and none answered.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.closed: Fault | None = None
        self.silent = False
        self.workspace = Workspace()
        self._changed = asyncio.Event()
        self.socket = SocketMode(changed=self._changed.set)
        self._response_urls: dict[str, int] = {}
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        return f"{self.workspace.origin}/api/"

    async def start(self) -> None:
        """Listen, the second time on the same port as the first."""
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/api/{method}", self._called)
        application.router.add_post("/respond/{number}", self._responded)
        application.router.add_post("/upload/{file}", self._uploaded)
        application.router.add_get("/link/{ticket}", self.socket.handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        self._port = self._port or free_port()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.workspace.origin = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Refuse connections from now on, and break those that there are."""
        self.socket.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def running(self) -> bool:
        return self._runner is not None

    async def until(self, condition: Callable[[], _T]) -> _T:
        """Return what `condition` gives as soon as it is true."""
        async with asyncio.timeout(30):
            while not (result := condition()):
                self._changed.clear()
                await self._changed.wait()
        return result

    def wake(self) -> None:
        """Have conditions looked at again that depend on others than the server."""
        self._changed.set()

    def called(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    def fail(self, method: str, *faults: Fault) -> None:
        self.faults[method] += faults

    async def command(self, text: str, *, channel: str = CHANNEL, **fields: Any) -> str:
        """Have somebody give a slash command; return the id of its envelope."""
        body = payloads.command(text, channel=channel, response_url=self.response_url(), **fields)
        return await self.act("slash_commands", body)

    async def press(self, value: str, *, message: str, channel: str = CHANNEL, **fields: Any) -> str:
        """Have somebody press a button; return the id of its envelope."""
        url = self.response_url()
        return await self.act(
            "interactive",
            payloads.press(value, channel=channel, message=message, response_url=url, **fields),
        )

    async def act(self, kind: str, body: dict[str, Any]) -> str:
        """Have somebody do what can open a modal."""
        self.workspace.triggers.add(body["trigger_id"])
        return await self.socket.deliver(kind, body)

    async def open_home(self, *, user: str = "U0ALICE", tab: str = "home") -> None:
        """Have somebody go to the app."""
        chat = {"U0ALICE": CHAT}.get(user, f"D{user[1:]}")
        body = payloads.event("app_home_opened", user=user, channel=chat, tab=tab, event_ts="1.1")
        await self.socket.deliver("events_api", body)

    async def submit(self, view: dict[str, Any], value: str, **fields: Any) -> dict[str, Any]:
        """Have somebody fill in a form; return what the app answers, which is done to the form."""
        envelope = await self.act("interactive", payloads.submission(view, value, **fields))
        ack = await self.until(lambda: self.socket.acked(envelope) or {})
        answer: dict[str, Any] = ack.get("payload") or {}
        match answer.get("response_action"):
            case None | "clear":
                del self.workspace.views[view["id"]]
            case "update":
                assert not view_refusal(answer["view"], "modal")
                self.workspace.views[view["id"]] = {**answer["view"], "id": view["id"]}
            case "errors":
                fields_ = {block["block_id"] for block in view["blocks"] if block["type"] == "input"}
                assert answer["errors"].keys() <= fields_
            case other:
                raise AssertionError(other)
        return answer

    async def say(self, text: str, *, channel: str = CHANNEL, thread: str = "", **fields: Any) -> str:
        """Have somebody write a message and return its `ts`; a mention of the bot arrives twice."""
        ts = self.workspace.note(channel, {"text": text, "thread_ts": thread or None})
        body = payloads.message(text, channel=channel, ts=ts, thread=thread, **fields)
        await self.socket.deliver("events_api", body)
        if f"<@{payloads.BOT}>" in text and channel.startswith("C"):
            body = payloads.mention(text, channel=channel, ts=ts, thread=thread)
            await self.socket.deliver("events_api", body)
        return ts

    def response_url(self) -> str:
        """Return an address that takes five answers."""
        number = str(len(self._response_urls))
        self._response_urls[number] = 5
        return f"{self.workspace.origin}/respond/{number}"

    async def _called(self, request: web.Request) -> web.StreamResponse:
        arguments: dict[str, Any] = dict(request.query)
        if request.content_type == "application/json":
            arguments.update(await request.json())
        else:
            arguments.update({key: str(value) for key, value in (await request.post()).items()})
        method = request.match_info["method"]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        call = Call(method, arguments)

        def obey() -> web.Response:
            answer = self.workspace.obey(call, token, ticket=self.socket.ticket())
            scopes = self.workspace.scopes if answer["ok"] else ()
            return web.json_response(answer, headers={"x-oauth-scopes": ",".join(scopes)} if scopes else None)

        return await self._answer(request, call, obey)

    async def _responded(self, request: web.Request) -> web.StreamResponse:
        number = request.match_info["number"]
        call = Call("respond", await request.json())

        def obey() -> web.Response:
            if not self._response_urls.get(number):
                return web.Response(status=404, text="used_url")
            self._response_urls[number] -= 1
            if call.arguments.get("delete_original"):
                return web.Response(text="ok")
            word = refusal(call.method, call.arguments)
            return web.Response(status=400, text=word) if word else web.Response(text="ok")

        return await self._answer(request, call, obey)

    async def _uploaded(self, request: web.Request) -> web.StreamResponse:
        name, content = request.match_info["file"], await request.read()

        def obey() -> web.Response:
            self.workspace.files[name] = content
            return web.Response(text=f"OK - {len(content)}")

        return await self._answer(request, Call("upload", {"file": name}), obey)

    async def _answer(
        self, request: web.Request, call: Call, obey: Callable[[], web.Response]
    ) -> web.StreamResponse:
        self.calls.append(call)
        self._changed.set()
        waiting = self.faults[call.method]
        closed = self.closed if call["channel"] or call["channel_id"] else None
        fault = waiting.pop(0) if waiting else closed or Fault()
        if self.silent or fault.silent:
            await asyncio.get_running_loop().create_future()
        if fault.body:
            content = fault.body.encode("latin-1")
            return web.Response(status=fault.status, body=content, content_type=fault.kind)
        if fault.word or fault.status != 200:
            answer = {"ok": False, "error": fault.word} if fault.word else {}
            return web.json_response(answer, status=fault.status, headers=fault.headers)
        answered = obey()
        if fault.lost:
            assert request.transport is not None
            request.transport.abort()
        return answered
