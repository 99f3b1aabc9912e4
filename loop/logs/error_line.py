"""The line of a log that says why a training failed: the one that a person would quote.

That is the exception of the program, not of its launcher. Of exceptions that were raised one from another it
is the last, as that is what the author of the program says of the cause; an earlier one where the last says
nothing by itself: it has no message, or only that something else failed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from loop.logs.progress import is_progress
from loop.logs.summary import is_entry
from loop.logs.tail import LONG_TAIL, TAIL, plain_lines, read_tail, untagged
from loop.text import one_line

ERROR_LENGTH = 200  # characters of an error line that are kept

_HEADER = "Traceback (most recent call last)"
_EMBEDDED = re.compile(
    r"(?P<indent>\s*)(?:(?:Original|Exception Group|.{1,40}:|> |[╭┌].{0,120}) ?)?"
)  # before it
_FRAME = re.compile(r'(?:\s{1,80}|> ?)File "([^"]{1,400})", line (\d{1,9})')
_MARKS = re.compile(r"[\s~^]*[~^][\s~^]*|\s*\.\.\.<\d+ lines?>\.\.\.")  # under a source line, between two
_BARS = re.compile(r"\s*(?:\+-[+-]*(?P<number> \d+ -+)?|[|+] ?)")  # of an exception group
_GROUP = re.compile(r"[\w.]*ExceptionGroup: ")
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_CLEANUP = ("Exception ignored", "Error in atexit", "--- Logging error ---")  # Python goes on after these
_SYNTAX = re.compile(r"(?:Syntax|Indentation|Tab)Error\b")
_NAME = re.compile(r"[\w.]+:?\s*")
_EXCEPTION = re.compile(r"[\w.<>]+(?:\([\w.]+\))?(?::\s.*|:?)")
_SECONDARY = re.compile(
    r"(?:[\w.]*\.)?(?:ChildFailedError|SignalException|CalledProcessError|ProcessExitedException|"
    r"BrokenProcessPool|DistBackendError|BrokenPipeError|ConnectionResetError|KeyboardInterrupt|SystemExit|"
    r"SimplifiedTraceback|UnfilteredStackTrace)\b"  # of JAX
    r"|.*(?:exited unexpectedly|[Cc]onnection closed by peer|communicator was aborted)"
)
"""What says only that something else failed, or that a process was ended."""
_SAYS_NOTHING = re.compile(r".*(?::|validation errors? for \S+)")  # by itself: what follows does
_COMPILED_AT = re.compile(r".*\bat \d{1,9}:\d{1,9}:")  # Triton goes on with the source, a caret and the cause
_DYNAMO = re.compile(r"torch\._dynamo\.exc\.")  # names what it got in a long line
_GOT = re.compile(r"\bgot (\w+(?:Error|Exception))\((['\"])(.+?)\2\)")
_LAST_ERROR = "Last error:"  # NCCL's own, which follows
_DEVICE_ASSERT = "device-side assert"
_LINES = 60  # of a message that are read
_CHAIN = 20  # exceptions raised one from another that are looked at

_ASSERTION, _ERROR, _SIGNAL, _ENDED = 2, 3, 4, 5
_SIGNS = (
    re.compile(r"Fatal Python error: .*"),
    re.compile(r"terminate called after throwing an instance of .*"),
    re.compile(r".*Assertion [`'].{1,300}?[`'] failed.*"),
    re.compile(r"(?:\S{1,200} )?(?:fatal )?error: .*|× .*", re.IGNORECASE),
    re.compile(r".*\b(?P<quoted>Signal \d{1,2} \(SIG[A-Z]{2,8}\) received by PID.*)"),
    re.compile(
        r"(?:.{0,200}[\s:])?(?:Segmentation fault|Bus error|Illegal instruction|Aborted|Killed|Terminated)"
        r"(?: \(core dumped\))?(?:\s{2,}.*)?"
    ),
    re.compile(r"(?:E {3,20})?(?P<quoted>[\w.]{0,200}(?:Error|Exception): .+)"),  # E of pytest
)
"""What says why a program ended without a traceback, the surest first."""
_SIGN_WORD = re.compile(
    r"error|terminate|assertion|signal|fault|illegal|abort|killed|exception|×", re.IGNORECASE
)
_REASON = re.compile(r"\s*(?:cause: |caused by: |[├╰]─▶ |what\(\): )\s*(\S.*)", re.IGNORECASE)
_NEAR = 100  # lines from the end: a sign before these is an old story
_NOISE = re.compile(
    r".{0,200}\b\w{0,40}Warning: |\s*warnings\.warn\(|wandb:|(?:hint|help|note|tip): "
    r"|Set (?:the environment variable )?[A-Z_]{4,40}=|For (?:debugging|simplicity|more|further|even more)\b"
    r"|(?:Compile|Run|Re-?run|Try) with\b|(?:See|Search for) .{0,200}https?:|To enable traceback see\b"
    r"|CUDA kernel errors might be|If (?:this is|you)\b.{0,300}https?:",
    re.IGNORECASE,
)
"""What warns, and what says only how to find out more."""


@dataclass(slots=True)
class _Raised:
    """An exception as a traceback shows it. The first line of its `message` names it."""

    indent: int = 0
    in_message: bool = False
    place: str = ""  # of the last frame
    source: str = ""
    message: list[str] = field(default_factory=list)
    cause: _Raised | None = None
    leaf: _Raised | None = None  # of a group the first
    headless: bool = False  # frames without a head: only those of a syntax error count

    def chain(self) -> list[_Raised]:
        """Return the exception, or what it is a group of, and those that it was raised from."""
        chain: list[_Raised] = []
        one = self if self.message else None
        while one and len(chain) < _CHAIN:
            inner = one
            for _ in range(_CHAIN):
                inner = inner.leaf if inner.leaf and inner.leaf.message else inner
            chain.append(inner)
            one = one.cause
        return chain

    @property
    def is_secondary(self) -> bool:
        own = self._last_error().startswith("Cuda failure")
        return not own and _SECONDARY.match(self.message[0]) is not None

    @property
    def is_bare(self) -> bool:
        return _NAME.fullmatch(self.message[0]) is not None and not self._rest()

    def quote(self) -> str:
        first = self.message[0]
        if _SYNTAX.match(first):
            return f"{first} ({self.place}: {self.source})" if self.source else first
        if self.is_bare and self.source and not self.is_secondary:
            return f"{first.rstrip(' :')}: {self.source} ({self.place})"
        rest = self._rest()
        if last := self._last_error():
            return f"{first.partition(' in: ')[0]}: {last}"
        if _DYNAMO.match(first) and (got := next(filter(None, map(_GOT.search, self.message)), None)):
            return f"{got[1]}: {got[3]}"
        if _COMPILED_AT.fullmatch(first):
            after = next((n for n, line in enumerate(self.message) if _MARKS.fullmatch(line)), 0)
            rest = [line for line in self.message[after + 1 :] if _tells(line)] or rest
        elif not (_SAYS_NOTHING.fullmatch(first) or _NAME.fullmatch(first)):
            rest = []
        return " ".join([first, *rest[:2]])

    def _last_error(self) -> str:
        lines = iter(self.message)
        return next(lines, "") if _LAST_ERROR in lines else ""  # the one after it

    def _rest(self) -> list[str]:
        return [line for line in self.message[1:] if _tells(line) and not _NOISE.match(line)]


def tells_of_full_memory(text: str) -> bool:
    return any(sign in text for sign in ("OutOfMemoryError", "ut of memory", "MemoryError"))  # Out: XLA's


def read_failure(path: Path) -> str:
    """Read the end of a log, with the last traceback before it where that has a long message."""
    tail = read_tail(path)
    if _HEADER in tail:
        return tail
    before = read_tail(path, LONG_TAIL)[: -len(tail) or None]
    header = before.rfind(_HEADER)
    if header < 0:
        return tail
    start = before.rfind("\n", 0, header) + 1
    return f"{before[start : start + TAIL]}\n{tail}"


def error_line(text: str, *, killed: bool = False) -> str:
    """Find the line that says best why a training failed, at most 200 characters of it.

    This is the exception of the last traceback, unless the training went on after it; else the last line that
    says something and is no progress line, but not of one that was `killed`: there it is no error. Where a
    line says nothing without the next ones, these are added. Terminal escapes, control characters and the
    tags of launchers are removed.
    """
    log = _Log()
    for line in plain_lines(text):
        log.read(line)
    last = "" if killed or is_entry(log.last_line) else log.last_line  # a number is no error either
    return one_line(log.error(killed=killed) or last, ERROR_LENGTH)


def _tells(line: str) -> bool:
    return any(map(str.isalnum, line))


class _Log:
    """Reads a log line by line. A progress line makes it forget what was before: the program went on."""

    def __init__(self) -> None:
        self._prefix = ""  # of the last traceback, where it is no launcher's: of torch's own log, for one
        self._prefixes: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._number = 0
        self.last_line = ""
        self._raised: list[tuple[str, _Raised]] = []  # with the process that wrote it
        self._open: dict[str, _Raised] = {}
        self._closed: dict[str, _Raised] = {}
        self._causes: dict[str, _Raised] = {}  # of what is raised next
        self._groups: dict[str, _Raised] = {}
        self._before: dict[str, str] = {}  # its last line
        self._signs: dict[int, tuple[int, str]] = {}
        self._sign: int | None = None  # on the line before

    def read(self, line: str) -> None:
        self._number += 1
        source, body = self._split(line)
        if self._is_barred(source, body) and (bars := _BARS.match(body)):
            body = body[bars.end() :]
            if bars["number"]:
                self._open_leaf(source)
                return
        if body.strip():
            if _tells(body) and not _NOISE.match(body):
                self.last_line = body
            self._read_body(source, body)
            self._before[source] = body
        elif (raised := self._open.get(source)) and raised.message and not raised.message[-1].endswith(":"):
            del self._open[source]

    def _split(self, line: str) -> tuple[str, str]:
        """Return which process wrote the line, as far as it says so, and the line without that."""
        if self._prefix and line.startswith(self._prefix):
            return self._prefix, line[len(self._prefix) :]
        source, body = untagged(line)
        head = body.find(_HEADER)
        if head > 0 and not (_EMBEDDED.fullmatch(body[:head]) or self._is_barred(source, body)):
            self._prefix = line[: line.index(_HEADER)]
            self._prefixes.add(self._prefix)
            return self._prefix, body[head:]
        return source, body

    def _read_body(self, source: str, body: str) -> None:
        raised = self._open.get(source)
        if raised and not raised.in_message and self._read_frame(source, raised, body):
            return
        if is_progress(body):
            self._forget()
        elif _HEADER in body:
            self._begin(source, body)
        elif body.startswith(_CHAINED):
            self._open.pop(source, None)
            if source in self._closed:
                self._causes[source] = self._closed[source]
        elif raised := self._open.get(source):
            self._read_message(source, raised, body)
        else:
            self._read_other(source, body)

    def _is_barred(self, source: str, body: str) -> bool:
        return source in self._groups or f"Exception Group {_HEADER}" in body

    def _begin(self, source: str, body: str) -> None:
        leaf = self._open.get(source)
        if source in self._groups and leaf and not (leaf.message or leaf.place):
            return  # its traceback, below the line that numbers it
        before = _EMBEDDED.match(body)
        raised = _Raised(indent=len(before["indent"]) if before else 0, cause=self._causes.pop(source, None))
        self._open[source] = self._closed[source] = raised
        if "Exception Group" in body:
            self._groups[source] = raised  # its lines have bars from here on
        if not self._before.get(source, "").startswith(_CLEANUP):
            self._raised.append((source, raised))

    def _open_leaf(self, source: str) -> None:
        leaf = _Raised()
        group = self._groups[source]
        group.leaf = group.leaf or leaf
        self._open[source] = leaf

    def _read_frame(self, source: str, raised: _Raised, body: str) -> bool:
        """Read a line between the head of a traceback and its exception; False where it is neither."""
        indent = len(body) - len(body.lstrip())
        if frame := _FRAME.match(body):
            raised.place = f"{frame[1].replace(chr(92), '/').rpartition('/')[2]}, line {frame[2]}"
            raised.source = ""
        elif body[0] in "│╭╰┌└":  # a box of rich
            pass
        elif indent > raised.indent:
            if not _MARKS.fullmatch(body) and len(raised.source) < ERROR_LENGTH:
                raised.source = f"{raised.source} {body.strip()}".strip()
        elif _HEADER in body or is_progress(body):
            return False
        elif raised.headless and not _SYNTAX.match(body):
            del self._open[source]
            return False
        elif raised.message and not _EXCEPTION.fullmatch(body.strip()):
            raised.in_message = True  # the frames were of the message
            return False
        else:
            raised.message = [body.strip()]
            raised.in_message = True
            if raised.headless:
                self._raised.append((source, raised))
            if _GROUP.match(body):
                self._groups[source] = raised
        return True

    def _read_message(self, source: str, raised: _Raised, body: str) -> None:
        if _FRAME.match(body):  # another process's traceback, mostly: then its exception follows
            raised.in_message = False
            self._read_frame(source, raised, body)
            return
        if len(raised.message) < _LINES:
            raised.message.append(body.strip())
        self._read_sign(body.strip())  # torchrun's message says which signal came

    def _read_other(self, source: str, body: str) -> None:
        if _FRAME.match(body):
            self._open[source] = raised = _Raised(headless=True)
            self._read_frame(source, raised, body)
        elif self._sign is not None and (reason := _REASON.match(body)):
            number, line = self._signs[self._sign]
            self._signs[self._sign] = number, f"{line.rstrip(':')}: {reason[1]}"
            self._sign = None
        else:
            self._sign = None
            self._read_sign(body.strip())

    def _read_sign(self, line: str) -> None:
        if not _SIGN_WORD.search(line):
            return
        for rank, sign in enumerate(_SIGNS):
            if found := sign.fullmatch(line):
                first = self._signs.get(rank)
                # Of torchrun's the last is the cause.
                if first is None or rank >= _SIGNAL or not self._is_near(first[0]):
                    self._signs[rank] = self._number, found.groupdict().get("quoted", line)
                    self._sign = rank
                return

    def _is_near(self, number: int) -> bool:
        return self._number - number < _NEAR

    def error(self, *, killed: bool) -> str:
        exceptions: dict[str, _Raised] = {}  # the last of each process, the last of all first
        for source, raised in reversed(self._raised):
            if source not in exceptions and (telling := _most_telling(raised.chain())):
                exceptions[source] = telling
        signs = {
            rank: line
            for rank, (number, line) in sorted(self._signs.items())
            if rank < _ERROR or (self._is_near(number) and not (killed and rank > _ENDED))
        }
        if exceptions:
            by_name = [each for source, each in exceptions.items() if source and source not in self._prefixes]
            # Of the processes that a launcher named it is the first that failed.
            line = (by_name[-1] if by_name else next(iter(exceptions.values()))).quote()
            if _DEVICE_ASSERT in line and _ASSERTION in signs:
                line = f"{line}: {signs[_ASSERTION][signs[_ASSERTION].rindex('Assertion') :]}"
            return line
        secondary = (raised.quote() for _, raised in reversed(self._raised) if raised.message)
        return next(iter(signs.values()), "") or next(secondary, "")


def _most_telling(chain: list[_Raised]) -> _Raised | None:
    """Choose from an exception and those that it was raised from; None where they say only what followed."""
    primary = [raised for raised in chain if not raised.is_secondary]
    full = (raised for raised in primary if tells_of_full_memory(raised.message[0]))
    named = (raised for raised in primary if not raised.is_bare)
    return next(full, None) or next(named, None) or next(iter(primary), None)
