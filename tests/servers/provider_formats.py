"""What providers of language models send back: one answer in the words of each of their interfaces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as we count them: `read` is all that was read, `cached` and `written` parts of it."""

    read: int = 1000
    cached: int = 0
    written: int = 0
    output: int = 100


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of a model: the arguments of a tool, or a text where none is offered."""

    arguments: str
    usage: Usage = Usage()

    def anthropic(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        usage = self.usage
        if tools := asked.get("tools"):
            arguments = json.loads(self.arguments)
            content = {"type": "tool_use", "id": "toolu_1", "name": tools[0]["name"], "input": arguments}
        else:
            content = {"type": "text", "text": self.arguments}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": [content],
            "stop_reason": "tool_use" if asked.get("tools") else "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": usage.read - usage.cached - usage.written,
                "cache_read_input_tokens": usage.cached,
                "cache_creation_input_tokens": usage.written,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 0,
                    "ephemeral_1h_input_tokens": usage.written,
                },
                "output_tokens": usage.output,
            },
        }

    def anthropic_events(self, asked: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        message = self.anthropic(asked)
        (block,) = message["content"]
        if block["type"] == "tool_use":
            empty, delta = (
                {**block, "input": {}},
                {"type": "input_json_delta", "partial_json": self.arguments},
            )
        else:
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": self.arguments}
        end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        return [
            ("message_start", {"message": {**message, "content": [], "stop_reason": None}}),
            ("content_block_start", {"index": 0, "content_block": empty}),
            ("content_block_delta", {"index": 0, "delta": delta}),
            ("content_block_stop", {"index": 0}),
            ("message_delta", {"delta": end, "usage": {"output_tokens": self.usage.output}}),
            ("message_stop", {}),
        ]

    def openai_chat(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        usage = self.usage
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if tools := asked.get("tools"):
            function = {"name": tools[0]["function"]["name"], "arguments": self.arguments}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
        else:
            message["content"] = self.arguments
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if tools else "stop"}],
            "usage": {
                "prompt_tokens": usage.read,
                "completion_tokens": usage.output,
                "total_tokens": usage.read + usage.output,
                "prompt_tokens_details": {"cached_tokens": usage.cached},
            },
        }

    def openai_responses(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        usage = self.usage
        if tools := asked.get("tools"):
            call = {"type": "function_call", "name": tools[0]["name"], "arguments": self.arguments}
            output = {**call, "id": "fc_1", "call_id": "call_1", "status": "completed"}
        else:
            content = [{"type": "output_text", "text": self.arguments, "annotations": []}]
            output = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": asked["model"],
            "output": [output],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": usage.read,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.output,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.read + usage.output,
            },
        }

    def google(self, asked: Mapping[str, Any], model: str) -> dict[str, Any]:
        usage = self.usage
        if tools := asked.get("tools"):
            name = tools[0]["functionDeclarations"][0]["name"]
            part: dict[str, Any] = {"functionCall": {"name": name, "args": json.loads(self.arguments)}}
        else:
            part = {"text": self.arguments}
        return {
            "responseId": "resp_1",
            "modelVersion": model,
            "candidates": [
                {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
            ],
            "usageMetadata": {
                "promptTokenCount": usage.read,
                "cachedContentTokenCount": usage.cached,
                "candidatesTokenCount": usage.output,
                "totalTokenCount": usage.read + usage.output,
            },
        }


def refusal(path: str, status: int, kind: str, message: str) -> dict[str, Any]:
    """The body of an error as the provider of that interface words it."""
    if path.endswith("/messages"):
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    if "generateContent" in path:
        return {"error": {"code": status, "status": kind, "message": message}}
    return {"error": {"type": kind, "code": None, "param": None, "message": message}}
