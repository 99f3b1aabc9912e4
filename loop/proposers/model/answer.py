"""What a model answers: the schema that it is given, and the program that an answer makes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from loop.experiment import Family
from loop.program.edits import Edit, EditError, apply_edits, check_program, whole_file
from loop.proposers.prompt.fencing import LINE, PROSE
from loop.text import one_line


def _family(value: object) -> object:
    """Read what a model calls a family; another word than ours is no reason to ask again."""
    word = value.strip().lower().replace("_", " ") if isinstance(value, str) else value
    return word if word in set(Family) else None


def _all_required(schema: dict[str, Any]) -> None:
    """Let a model fill in every field; an answer that leaves one out is taken all the same."""
    schema["required"] = list(schema["properties"])
    for field in schema["properties"].values():
        field.pop("default", None)


class Block(BaseModel):
    """A piece of the program, and what takes its place."""

    search: str = Field(description="Lines of the program, letter by letter, that are there exactly once.")
    replace: str = Field(description="What takes their place.")


class Answer(BaseModel):
    """The next experiment."""

    model_config = ConfigDict(json_schema_extra=_all_required)

    rationale: str = Field(default="", description="Why it should help, in at most three sentences.")
    family: Annotated[Family | None, BeforeValidator(_family)] = Field(
        default=None, description="The kind of change."
    )
    expected: str = Field(default="", description='The effect that you hope for, like "-0.002".')
    description: str = Field(description="What changes, in one line of at most 80 letters.")
    edits: list[Block] = Field(default=[], description="What is changed in the program.")
    source: str | None = Field(default=None, description="Instead of edits: the whole new program.")

    @field_validator("description", "expected")
    @classmethod
    def _line(cls, text: str) -> str:
        return one_line(text, LINE)

    @field_validator("rationale")
    @classmethod
    def _short(cls, text: str) -> str:
        return one_line(text, PROSE)

    @field_validator("description")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text:
            raise ValueError("Say in one line what changes.")
        return text


class Mended(Answer):
    """The crashed experiment mended, or given up."""

    hopeless: bool = Field(
        default=False, description="The idea is given up: it is not worth another training. No edits then."
    )


def program_of(answer: Answer, before: str, *, whole: bool) -> str:
    """Return the program that the answer makes of `before`.

    `whole` says that the model was shown all of `before`: otherwise it cannot give back a whole program.

    Raises:
        EditError: it makes none, or one that is no other Python program.
    """
    if answer.source and answer.edits:
        raise EditError("Answer with `edits` or with `source`, not with both.")
    if answer.source and not whole:
        raise EditError("The program was not shown to its end: answer with `edits`.")
    if answer.source:
        after = whole_file(before, answer.source)
    else:
        after = apply_edits(before, [Edit(block.search, block.replace) for block in answer.edits])
    check_program(before, after)
    return after
