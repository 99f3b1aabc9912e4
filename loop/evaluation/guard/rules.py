"""What the guard finds: the kinds of findings, and the one table of names that are worth one.

Nothing is gained by making the lists longer: a name that is joined at run time passes any of them.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from loop.evidence import Finding, Rule, Severity


def found(rule: Rule, node: ast.AST, message: str, severity: Severity = Severity.FLAG) -> Finding:
    return Finding(rule, getattr(node, "lineno", 1), message, severity)


@dataclass(frozen=True, slots=True)
class Reach:
    """Paths of names, such as `os.fork`, and what somebody who uses them does."""

    rule: Rule
    what: str
    paths: re.Pattern[str]
    severity: Severity = Severity.FLAG


def _reach(rule: Rule, what: str, paths: str, severity: Severity = Severity.FLAG) -> Reach:
    return Reach(rule, what, re.compile(rf"(?:{paths})(?!\w)"), severity)


REACHES = (  # of several that match the first counts
    _reach(
        Rule.PROCESS,
        "starts, ends or replaces processes",
        r"subprocess|multiprocessing|torch\.multiprocessing|pty|concurrent\.futures\.ProcessPoolExecutor"
        r"|os\.(?:fork\w*|system|popen|kill|killpg|exec\w+|spawn\w+|posix_spawn\w*|setsid)",
    ),
    _reach(
        Rule.NETWORK,
        "uses the network",
        r"socket|socketserver|ssl|urllib|http|ftplib|smtplib|xmlrpc|requests|httpx|aiohttp|torch\.hub",
    ),
    _reach(
        Rule.FRAMES,
        "reads or steers the frames of other functions",
        r"sys\.(?:_getframe\w*|_current_frames|settrace|setprofile|monitoring)|bdb|pdb"
        r"|threading\.set(?:trace|profile)\w*|traceback\.(?:walk_\w+|extract_stack)"
        r"|inspect\.(?:currentframe|stack|trace|get(?:outer|inner)frames|getframeinfo|getclosurevars)",
    ),
    _reach(
        Rule.MEMORY,
        "reaches objects or memory that were not given to it",
        r"gc\.(?:get_objects|get_referrers|get_referents|callbacks)|ctypes|cffi|mmap"
        r"|torch\.utils\.cpp_extension|torch\.ops\.load_library|torch\.as_strided",
    ),
    _reach(
        Rule.IMPORTS,
        "asks which packages are there",
        r"importlib\.(?:metadata|util\.find_spec)",
        Severity.NOTE,
    ),
    _reach(
        Rule.IMPORTS,
        "imports or runs code in a way that cannot be read",
        r"importlib|imp|runpy|pkgutil|zipimport|codeop|marshal|builtins\.(?:__\w+__|eval|exec|compile)"
        r"|sys\.(?:modules|meta_path|path|path_hooks|path_importer_cache)"
        r"|types\.(?:ModuleType|CodeType|FunctionType)",
    ),
    _reach(
        Rule.NAMES,
        "reaches names by their text",
        r"builtins\.(?:globals|locals)|operator\.(?:attrgetter|methodcaller)",
    ),
    _reach(
        Rule.REPLACED,
        "comes between other modules and their callers",
        r"unittest\.mock|wrapt|torch\.overrides|torch\.utils\.(?:_python_dispatch|_device)",
    ),
    _reach(
        Rule.SUMMARY,
        "moves the output, or writes past it",
        r"os\.(?:write|writev|dup2?|fdopen)|sys\.__std\w+__|contextlib\.redirect_std\w+",
    ),
    _reach(Rule.TIME, "counts another time than the clock's", r"time\.(?:process|thread)_time\w*"),
    _reach(Rule.EXIT, "ends the program at once", r"os\.(?:_exit|abort)|signal\.raise_signal"),
    _reach(
        Rule.ENVIRONMENT, "reads or sets the environment", r"os\.(?:environb?|getenv|putenv)", Severity.NOTE
    ),
)

ATTRIBUTES = {  # whatever they are attributes of
    **dict.fromkeys(("f_back", "f_locals", "f_globals", "tb_frame", "gi_frame", "cr_frame"), Rule.FRAMES),
    **dict.fromkeys(("__closure__", "cell_contents", "__globals__", "__code__"), Rule.NAMES),
    **dict.fromkeys(("__subclasses__", "__builtins__"), Rule.NAMES),
    **dict.fromkeys(("untyped_storage", "_typed_storage", "storage", "data_ptr", "_base"), Rule.MEMORY),
    **dict.fromkeys(("as_strided", "as_strided_", "__array_interface__"), Rule.MEMORY),
    "__cuda_array_interface__": Rule.MEMORY,
}

METHODS = ("__torch_function__", "__torch_dispatch__")  # a class with one sees every operation

REACHED_BY_TEXT = ("builtins", "gc", "importlib", "inspect", "os", "sys", "time")
"""Modules of which a name that is built at run time may be anything above."""

HANDLERS = re.compile(r"(?:atexit\.register|signal\.signal|weakref\.finalize)(?!\w)")
"""What is given a function that runs later, at the end perhaps."""

SETTINGS = re.compile(r"\b(?:config|backends|environ)\b")
"""In a path: what is assigned there sets a module up and replaces nothing."""

PRINTED = frozenset({"float", "format", "print", "repr", "round", "str"})
"""Functions that a number passes on its way to the summary."""

EVALUATOR = re.compile(r"eval|score|bpb", re.IGNORECASE)
"""In the name of a frozen module's function: it scores models."""

HELD_OUT = re.compile(
    r"(?:val|valid|validation|audit)[_*-]{0,2}"
    r"|.*\b(?:val|valid|validation|audit)_?[\d*]*\.(?:npy|bin|parquet|txt).*"
    r"|.*(?:token_bytes|manifest\.json).*",
    re.IGNORECASE,
)
"""A text that names what no training may see, or the files that tokens are in."""

READERS = re.compile(
    r"(?:builtins|io|os|gzip|bz2|lzma)\.open|numpy\.(?:load|memmap|fromfile|loadtxt|genfromtxt)"
    r"|torch\.(?:load|from_file)|os\.(?:listdir|scandir|walk)|glob\.i?glob"
)
WRITERS = re.compile(
    r"(?:numpy|torch)\.save\w*|shutil\.(?:copy\w*|move|rmtree)"
    r"|os\.(?:remove|unlink|rename|replace|link|symlink|truncate|chmod|rmdir)"
)
READS = frozenset({"iterdir", "read_bytes", "read_text", "rglob"})  # methods of a path
WRITES = frozenset({"hardlink_to", "symlink_to", "write_bytes", "write_text"})
