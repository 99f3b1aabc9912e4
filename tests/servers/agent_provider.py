"""A provider of models for coding agents, on the loopback: it has one text replaced and then says one thing.

It speaks what the agents speak: Messages (Anthropic), Responses (OpenAI) and generateContent (Google), all
streaming. What a conversation has come to is read from the results of tools that it holds.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

Json: TypeAlias = dict[str, Any]

INPUT, CACHED, OUTPUT = 150, 50, 20
"""Tokens of each request."""

ROUTE = json.dumps({"complexity_reasoning": "one line", "complexity_score": 1})

_LARGEST = 2**26  # bytes of a request


@dataclass
class AgentProvider:
    """Has `old` replaced by `new` in `file`, and ends with `message`. `keys` and `prompts` are what came."""

    file: str
    old: str
    new: str
    message: str
    url: str = ""
    keys: set[str] = field(default_factory=set)
    prompts: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[AgentProvider]:
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_post("/v1beta/models/{call}", self._generate_content)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        asked = await self._read(request, key=request.headers.get("x-api-key", ""))
        blocks = [
            block
            for turn in asked["messages"]
            if isinstance(turn["content"], list)
            for block in turn["content"]
        ]
        tools = {tool["name"].lower(): tool["name"] for tool in asked.get("tools", ())}
        done = sum(block["type"] == "tool_result" for block in blocks)
        if not {"read", "edit"} <= tools.keys() or done >= 2:
            said: Json = {"type": "text", "text": self.message}
        else:
            camel = tools["edit"] == "edit"  # as opencode names arguments
            file, old, new = (
                ("filePath", "oldString", "newString") if camel else ("file_path", "old_string", "new_string")
            )
            edit = {old: self.old, new: self.new} if done else {}
            name = tools["edit" if done else "read"]
            said = {
                "type": "tool_use",
                "id": f"toolu_{done}",
                "name": name,
                "input": {file: self.file, **edit},
            }
        return await _stream(request, _message_events(asked["model"], said))

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        asked = await self._read(request, key=key)
        if any(item["type"] == "function_call_output" for item in asked["input"]):
            content = [{"type": "output_text", "text": self.message}]
            item: Json = {"type": "message", "id": "m1", "role": "assistant", "content": content}
        else:
            command = f"sed -i 's/{self.old}/{self.new}/' {self.file}"
            call = {"name": "exec_command", "arguments": json.dumps({"cmd": command})}
            item = {"type": "function_call", "id": "f1", "call_id": "c1", **call}
        usage = {
            "input_tokens": INPUT,
            "input_tokens_details": {"cached_tokens": CACHED},
            "output_tokens": OUTPUT,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": INPUT + OUTPUT,
        }
        events: list[Json] = [
            {"type": "response.created", "response": {"id": "r1"}},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {"id": "r1", "usage": usage}},
        ]
        return await _stream(request, events)

    async def _generate_content(self, request: web.Request) -> web.StreamResponse:
        asked = await self._read(request, key=request.headers.get("x-goog-api-key", ""))
        parts = [part for turn in asked["contents"] for part in turn["parts"]]
        tools = [tool for tools in asked.get("tools", ()) for tool in tools["functionDeclarations"]]
        routing = request.match_info["call"].endswith(":generateContent")  # which model is it a task for?
        part: Json = {"text": ROUTE if routing else self.message}
        if any(tool["name"] == "replace" for tool in tools) and not any(
            "functionResponse" in p for p in parts
        ):
            edit = {"file_path": self.file, "old_string": self.old, "new_string": self.new}
            part = {"functionCall": {"name": "replace", "args": {**edit, "instruction": "replace it"}}}
        candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
        usage = {
            "promptTokenCount": INPUT,
            "cachedContentTokenCount": CACHED,
            "candidatesTokenCount": OUTPUT,
            "totalTokenCount": INPUT + OUTPUT,
        }
        answer = {"candidates": [candidate], "usageMetadata": usage}
        if routing:
            return web.json_response(answer)
        return await _stream(request, [answer])

    async def _read(self, request: web.Request, *, key: str) -> Json:
        asked: Json = await request.json()
        self.keys.add(key)
        self.prompts.append(json.dumps(asked))
        return asked


def _message_events(model: str, said: Json) -> list[Json]:
    usage = {
        "input_tokens": INPUT - CACHED,
        "cache_read_input_tokens": CACHED,
        "cache_creation_input_tokens": 0,
        "output_tokens": OUTPUT,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": []}
    if said["type"] == "text":
        begun, delta = {**said, "text": ""}, {"type": "text_delta", "text": said["text"]}
    else:
        begun = {**said, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(said["input"])}
    reason = "end_turn" if said["type"] == "text" else "tool_use"
    return [
        {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": OUTPUT}},
        {"type": "message_stop"},
    ]


async def _stream(request: web.Request, events: list[Json]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        name = f"event: {event['type']}\n" if "type" in event else ""
        await response.write(f"{name}data: {json.dumps(event)}\n\n".encode())
    return response
