from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.logs.error_line import error_line, read_failure
from loop.logs.tail import LONG_TAIL, TAIL
from tests.loop import toys
from tests.loop.logs import crash_logs as logs
from tests.loop.logs.crash_logs import CHAINED, FROM, TRACEBACK, tagged
from tests.loop.logs.test_summary import BLOCK


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{TRACEBACK}RuntimeError: CUDA out of memory.\n", "RuntimeError: CUDA out of memory."),
        (f"{TRACEBACK}KeyError: 'a'\n{CHAINED}{TRACEBACK}ValueError: b\n", "ValueError: b"),
        (f"{TRACEBACK}KeyError: 'a'\n{FROM}{TRACEBACK}ValueError: no layer a\n", "ValueError: no layer a"),
        (f"{TRACEBACK}KeyError: 'a'\n{FROM}{TRACEBACK}RuntimeError\n", "KeyError: 'a'"),
        (f"{TRACEBACK}KeyError: 'a'\n{CHAINED}{TRACEBACK}KeyboardInterrupt\n", "KeyError: 'a'"),
        (f"{TRACEBACK}KeyboardInterrupt\n", "KeyboardInterrupt"),
        (f"{TRACEBACK}ValueError: caught\n{toys.PROGRESS}\nKilled\n", "Killed"),
        (f"warming up\n{TRACEBACK}", 'raise RuntimeError("CUDA out of memory.")'),
        (f"Exception in thread Thread-1 (f):\n{TRACEBACK}OSError: disk\n", "OSError: disk"),
        (tagged("[rank0]: ", f"{TRACEBACK}ValueError: b\nmore"), "ValueError: b"),
        (tagged("(train pid=12, ip=10.0.0.1) ", f"{TRACEBACK}ValueError: b"), "ValueError: b"),
        (tagged("2026-11-29T20:00:01.5Z ", f"{TRACEBACK}ValueError: b"), "ValueError: b"),
        (tagged("3: ", f"{TRACEBACK}ValueError: b"), "ValueError: b"),
        (tagged("node one> ", f"{TRACEBACK}ValueError: b"), "ValueError: b"),
        (logs.TORCHRUN, "ValueError: width 640 does not divide by 7 heads"),
        (logs.OLD_TORCHRUN, "ValueError: width 640 does not divide by 7 heads"),
        (logs.TWO_RANKS, "FileNotFoundError: [Errno 2] No such file or directory: 'shard_00017.bin'"),
        (logs.KILLED_RANK, "Signal 9 (SIGKILL) received by PID 412"),
        (logs.RECORDED_RANK, "ValueError: sequence of 0 tokens"),
        (logs.ACCELERATE, "KeyError: 'lm_head.weight'"),
        (logs.DEEPSPEED, "RuntimeError: expected scalar type BFloat16 but found Float"),
        (logs.SPAWNED, "ZeroDivisionError: division by zero"),
        (logs.RAY, "ValueError: no batch fits"),
        (logs.GROUP, "ValueError: shard 7 is empty"),
        (logs.GROUP.split("\n", 3)[0] + "\n" + logs.NESTED_GROUP, "TypeError: never raised"),
        (
            logs.STATE_DICT,
            (
                "RuntimeError: Error(s) in loading state_dict for GPT: size mismatch for wte.weight: copying "
                "a param with shape torch.Size([512]) from checkpoint, the shape is 640. "
                "size mismatch for head.weight…"
            ),
        ),
        (
            logs.PYDANTIC,
            (
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for Config depth "
                "Input should be a valid integer [type=int_parsing, input_value='deep', input_type=str]"
            ),
        ),
        (
            logs.DEVICE_ASSERT,
            (
                "torch.AcceleratorError: CUDA error: device-side assert triggered: "
                "Assertion `srcIndex < srcSelectDimSize` failed."
            ),
        ),
        (logs.FULL_MEMORY, logs.FULL_MEMORY.splitlines()[3]),
        (logs.MEMORY_THEN_CLEANUP, logs.FULL_MEMORY.splitlines()[3]),
        (
            f"{TRACEBACK}ModuleNotFoundError: No module named 'kernels'\n",
            "ModuleNotFoundError: No module named 'kernels'",
        ),
        (
            logs.TRITON,
            (
                "torch._inductor.exc.InductorError: CompilationError: at 14:11: "
                "AssertionError('All values in both first input shape should be >= 16')"
            ),
        ),
        (
            logs.BACKEND,
            (
                "torch._dynamo.exc.BackendCompilerFailed: backend='inductor' raised: "
                "RuntimeError: Triton Error [CUDA]: device kernel image is invalid"
            ),
        ),
        (logs.DYNAMO, "RuntimeError: a and b must have same reduction dim, but got [2, 2] X [3, 3]."),
        (logs.DYNAMO + f"{TRACEBACK}ValueError: b\n", "ValueError: b"),
        (logs.SYNTAX, "SyntaxError: expected ':' (train.py, line 12: for step in range(10))"),
        (
            logs.IMPORTED_SYNTAX,
            (
                "IndentationError: expected an indented block after function definition on line 2 "
                "(model.py, line 3: return x)"
            ),
        ),
        (
            logs.BARE_ASSERT.replace("\n", "\r\n"),
            "AssertionError: assert TOTAL_BATCH_SIZE % tokens_per_fwdbwd == 0 (train.py, line 98)",
        ),
        (logs.SEGFAULT, "Fatal Python error: Segmentation fault"),
        ("run.sh: line 3:   412 Killed                  python train.py\n",) * 2,
        ("compiling\nSegmentation fault (core dumped)\n", "Segmentation fault (core dumped)"),
        (logs.DATALOADER, "ValueError: token 70001 is outside the vocabulary"),
        (logs.DATALOADER_KILLED, logs.DATALOADER_KILLED.splitlines()[3]),
        (
            logs.POOL,
            (
                "UnicodeEncodeError: 'ascii' codec can't encode character '\\xe9' in position 3: "
                "ordinal not in range(128)"
            ),
        ),
        (logs.ARGPARSE, "train.py: error: argument --depth: invalid int value: 'nine'"),
        (
            logs.UV,
            (
                "error: Failed to download `idna==3.10`: Failed to fetch: "
                "https://pypi.example/idna-3.10-py3-none-any.whl"
            ),
        ),
        (
            logs.OLD_UV,
            (
                "× No solution found when resolving dependencies: Because idna was not found in the cache "
                "and your project depends on idna==99, we can conclude that"
            ),
        ),
        (
            logs.CPP,
            (
                "terminate called after throwing an instance of 'c10::Error': "
                "CUDA error: an illegal memory access was encountered"
            ),
        ),
        (logs.CLEAN_UP, "ValueError: the real one"),
        (logs.LOGGING, "ValueError: the real one"),
        (logs.LEAKED, "ValueError: the real one"),
        (logs.RICH, "ValueError: no head"),
        (logs.LOGURU, "ZeroDivisionError: division by zero"),
        (logs.SOURCE_LIKE_PROGRESS, "ValueError: no steps"),
        ("FileNotFoundError: no data\nbye\n", "FileNotFoundError: no data"),
        (
            "No text in ~/.cache: run prepare.py first\n" + logs.LEAKED.split("real one\n")[1],
            "No text in ~/.cache: run prepare.py first",
        ),
        ("Downloading\nwandb: Synced 5 files\n", "Downloading"),
        (
            logs.INDUCTOR,
            (
                "torch._inductor.exc.InductorError: LoweringException: FileNotFoundError: [Errno 2] "
                "No such file or directory: '/opt/gcc/bin/gcc'"
            ),
        ),
        (
            logs.JAX,
            (
                "TypeError: dot_general requires contracting dimensions to have the same shape, "
                "got (3,) and (4,)."
            ),
        ),
        (
            logs.OLD_JAX,
            "AssertionError: assert TOTAL_BATCH_SIZE % tokens_per_fwdbwd == 0 (train.py, line 98)",
        ),
        (logs.HYDRA, "ValueError: no scheduler of that name"),
        (logs.HYDRA_OVERRIDE, "Key 'lrr' is not in struct"),
        (logs.RUST, "index out of bounds: the len is 256 but the index is 256"),
        (logs.CUDA, f"torch.AcceleratorError: {logs.CUDA_WITHOUT_TRACEBACK.splitlines()[0]}"),
        (logs.CUDA_WITHOUT_TRACEBACK, logs.CUDA_WITHOUT_TRACEBACK.splitlines()[0]),
        (logs.NCCL, "torch.distributed.DistBackendError: NCCL error: Cuda failure 2 'out of memory'"),
        (
            logs.TRANSFORMERS,
            (
                "OSError: gpt-2 is not a local folder and is not a valid model identifier listed on "
                "'https://huggingface.co/models'"
            ),
        ),
        (
            logs.TRANSFORMERS_BACKEND,
            (
                "ImportError: AutoModel requires the PyTorch library but it was not found in your "
                "environment. Check out the instructions on the installation page: "
                "https://pytorch.org/get-started/locally/ and follow…"
            ),
        ),
        (logs.PYTEST, "ValueError: width 640 does not divide by 7 heads"),
        (BLOCK, ""),
        (f"compiling\r{toys.PROGRESS}\r{toys.PROGRESS}", ""),
        (f"{toys.PROGRESS}\ndone\n", "done"),
        (f"{toys.PROGRESS}\nstep 13: the loss exploded (nan)\n\n=====\n", "step 13: the loss exploded (nan)"),
        ("\x1b[1;31mfatal:\x1b[0m \x1b]0;title\x07no\x08\tGPU\n", "fatal: no GPU"),
        ("bad\u202edrow \x00here\n", "bad drow here"),
        (toys.PROGRESS, ""),
        ("... 123 MB left out ...\n", "... 123 MB left out ..."),
        ("", ""),
    ],
)
def test_the_telling_line_is_found(text: str, line: str) -> None:
    assert error_line(text) == " ".join(line.split())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("parameters: 1.2 M, depth: 2\n", ""),
        (f"{BLOCK}peak_vram_mb: 10\n", ""),
        (f"loading\r{toys.PROGRESS}\r", ""),
        ("ValueError: printed and gone on\n", ""),
        (f"{TRACEBACK}ValueError: in a thread\nwaiting\n", "ValueError: in a thread"),
    ],
)
def test_an_ordinary_line_of_a_killed_training_is_no_error(text: str, line: str) -> None:
    assert error_line(text, killed=True) == line


@pytest.mark.parametrize(
    ("after", "line"),
    [
        ("", error_line(logs.INDUCTOR)),
        (f"{toys.PROGRESS}\ndone\n", "done"),
        (f"{TRACEBACK}ValueError: in the end\n", "ValueError: in the end"),
    ],
)
def test_a_traceback_before_a_long_message_is_found(tmp_path: Path, after: str, line: str) -> None:
    log = tmp_path / "log"
    log.write_text(
        "compiling\n" * 9 + logs.INDUCTOR.replace("Found from", "  tmp2 = 1\n" * TAIL + "Found") + after
    )
    assert error_line(read_failure(log)) == line


def test_a_log_without_a_traceback_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for text in ("", "a\nb\n", "x\n" * LONG_TAIL):
        log.write_text(text)
        assert read_failure(log) == text[-TAIL:]


def test_an_error_line_is_cut_at_200_characters() -> None:
    line = error_line("ValueError: " + "x" * 1000)
    assert len(line) == 200
    assert line.endswith("x…")


PIECES = (
    *(
        "Traceback (most recent call last):\n",
        '  File "train.py", line 3, in f\n',
        "    x = 1\n",
        "ValueError: b\n",
    ),
    *(
        "  + Exception Group Traceback (most recent call last):\n",
        "  | ExceptionGroup: g (1 sub-exception)\n",
    ),
    *(
        "  +-+---- 1 ----\n",
        "    | ",
        "\n",
        "[rank0]: ",
        CHAINED,
        FROM,
        "AssertionError\n",
        "error: x\n",
        "what(): ",
    ),
    *(
        toys.PROGRESS + "\n",
        "Original ",
        "Killed\n",
        "\r",
        "\x1b[0m",
        "SyntaxError: bad\n",
        "E: at 3:4:\n",
        "  ^\n",
    ),
)


@given(
    st.text()
    | st.lists(st.sampled_from(PIECES)).map("".join)
    | st.binary().map(lambda data: data.decode(errors="replace"))
)
def test_any_text_has_a_line_that_can_be_shown(text: str) -> None:
    line = error_line(text)
    assert error_line(text, killed=True) in ("", line)
    assert len(line) <= 200
    assert line == line.strip()
    assert line.isprintable()
