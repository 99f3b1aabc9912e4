"""Ends of logs as trainings leave them when they fail."""
# ruff: noqa: E501 - these are lines of other programs

from __future__ import annotations

TRACEBACK = """\
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    main()
  File "train.py", line 2, in main
    raise RuntimeError("CUDA out of memory.")
"""
CHAINED = "\nDuring handling of the above exception, another exception occurred:\n\n"
FROM = "\nThe above exception was the direct cause of the following exception:\n\n"


def tagged(tag: str, text: str) -> str:
    return "".join(f"{tag}{line}\n" for line in text.splitlines())


TORCHRUN = """\
[rank0]: Traceback (most recent call last):
[rank0]:   File "train.py", line 8, in <module>
[rank0]:     loss = model(x)
[rank0]: ValueError: width 640 does not divide by 7 heads
E1129 20:00:07.412000 400 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/venv/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-29_20:00:07
  exitcode  : 1 (pid: 412)
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
"""
OLD_TORCHRUN = TORCHRUN.replace("[rank0]: ", "")
TWO_RANKS = """\
[rank1]: Traceback (most recent call last):
[rank0]: Traceback (most recent call last):
[rank1]:   File "train.py", line 40, in <module>
[rank0]:   File "train.py", line 40, in <module>
[rank1]:     x = next(loader)
[rank1]: FileNotFoundError: [Errno 2] No such file or directory: 'shard_00017.bin'
[rank0]:     dist.all_reduce(loss)
[rank0]: torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2251, remote process exited
[rank0]: ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.
"""
KILLED_RANK = TORCHRUN.partition("E1129")[2].replace(
    "To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html",
    "Signal 9 (SIGKILL) received by PID 412",
)
KILLED_RANK = KILLED_RANK.replace(
    "Root Cause", "Failures:\n[1]:\n  traceback : Signal 15 (SIGTERM) received by PID 413\nRoot Cause"
)
RECORDED_RANK = """\
Traceback (most recent call last):
  File "/venv/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  exitcode  : 1 (pid: 412)
  error_file: /tmp/torchelastic_x1/none_y2/attempt_0/0/error.json
  traceback : Traceback (most recent call last):
    File "/venv/lib/python3.12/site-packages/torch/distributed/elastic/errors/__init__.py", line 355, in wrapper
      return f(*args, **kwargs)
    File "/home/train.py", line 12, in main
      raise ValueError("sequence of 0 tokens")
  ValueError: sequence of 0 tokens

============================================================
"""
ACCELERATE = """\
Traceback (most recent call last):
  File "/home/train.py", line 88, in <module>
    model.load(path)
KeyError: 'lm_head.weight'
Traceback (most recent call last):
  File "/venv/bin/accelerate", line 8, in <module>
    sys.exit(main())
  File "/venv/lib/python3.12/site-packages/accelerate/commands/launch.py", line 763, in simple_launcher
    raise subprocess.CalledProcessError(returncode=process.returncode, cmd=cmd)
subprocess.CalledProcessError: Command '['/venv/bin/python', 'train.py']' returned non-zero exit status 1.
"""
DEEPSPEED = """\
Traceback (most recent call last):
  File "/home/train.py", line 31, in <module>
    engine.step()
RuntimeError: expected scalar type BFloat16 but found Float
[2026-11-29 20:01:12,003] [INFO] [launch.py:319:sigkill_handler] Killing subprocess 412
[2026-11-29 20:01:12,004] [ERROR] [launch.py:325:sigkill_handler] ['/venv/bin/python', 'train.py'] exits with return code = 1
"""
SPAWNED = """\
Traceback (most recent call last):
  File "train.py", line 60, in <module>
    mp.spawn(main, nprocs=2)
torch.multiprocessing.spawn.ProcessRaisedException:

-- Process 1 terminated with the following error:
Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/torch/multiprocessing/spawn.py", line 90, in _wrap
    fn(i, *args)
  File "train.py", line 41, in main
    scale = 1 / warmup
ZeroDivisionError: division by zero

"""
RAY = """\
(train pid=4121) starting
Traceback (most recent call last):
  File "train.py", line 20, in <module>
    ray.get(train.remote())
ray.exceptions.RayTaskError(ValueError): ray::train() (pid=4121, ip=10.0.0.4)
  File "train.py", line 9, in train
    raise ValueError("no batch fits")
ValueError: no batch fits
"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "train.py", line 50, in <module>
  |     asyncio.run(main())
  | ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "train.py", line 31, in read
    |     raise ValueError("shard 7 is empty")
    | ValueError: shard 7 is empty
    +---------------- 2 ----------------
    | Traceback (most recent call last):
    |   File "train.py", line 33, in write
    |     await queue.get()
    | TimeoutError
    +------------------------------------
"""
NESTED_GROUP = """\
  | ExceptionGroup: outer (1 sub-exception)
  +-+---------------- 1 ----------------
    | ExceptionGroup: inner (2 sub-exceptions)
    +-+---------------- 1 ----------------
      | TypeError: never raised
      +---------------- 2 ----------------
      | KeyError: 'x'
      +------------------------------------
"""
STATE_DICT = """\
Traceback (most recent call last):
  File "train.py", line 2, in <module>
    model.load_state_dict(state)
RuntimeError: Error(s) in loading state_dict for GPT:
\tsize mismatch for wte.weight: copying a param with shape torch.Size([512]) from checkpoint, the shape is 640.
\tsize mismatch for head.weight: copying a param with shape torch.Size([512]) from checkpoint.
"""
PYDANTIC = """\
Traceback (most recent call last):
  File "train.py", line 9, in <module>
    config = Config(depth="deep")
pydantic_core._pydantic_core.ValidationError: 1 validation error for Config
depth
  Input should be a valid integer [type=int_parsing, input_value='deep', input_type=str]
    For further information visit https://errors.pydantic.dev/2.12/v/int_parsing
"""
DEVICE_ASSERT = (
    "".join(
        "/pytorch/aten/src/ATen/native/cuda/Indexing.cu:1553: indexSelectLargeIndex: block: [17,0,0], "
        f"thread: [{n},0,0] Assertion `srcIndex < srcSelectDimSize` failed.\n"
        for n in range(200)
    )
    + """\
Traceback (most recent call last):
  File "train.py", line 70, in <module>
    loss.backward()
torch.AcceleratorError: CUDA error: device-side assert triggered
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
"""
)
FULL_MEMORY = """\
Traceback (most recent call last):
  File "train.py", line 70, in <module>
    loss.backward()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB.
Tried: 2 GiB
"""
MEMORY_THEN_CLEANUP = (
    FULL_MEMORY
    + CHAINED
    + """\
Traceback (most recent call last):
  File "train.py", line 74, in <module>
    raise RuntimeError("training failed")
RuntimeError: training failed
"""
)
TRITON = """\
Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/triton/language/core.py", line 43, in wrapper
    return fn(*args, **kwargs)
AssertionError: All values in both first input shape should be >= 16
{from_}Traceback (most recent call last):
  File "train.py", line 70, in <module>
    loss = step(x, y)
  File "/venv/lib/python3.12/site-packages/torch/_inductor/compile_fx.py", line 781, in _compile_fx_inner
    raise InductorError(e, currentframe()).with_traceback(e.__traceback__) from None
torch._inductor.exc.InductorError: CompilationError: at 14:11:
    xnumel = 512
    xoffset = tl.program_id(0) * XBLOCK
    tmp0 = tl.dot(a, b)
           ^
AssertionError('All values in both first input shape should be >= 16')

Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace (please do this especially if you're reporting a bug).
""".replace("{from_}", FROM.lstrip("\n").join(("\n", "")))
BACKEND = """\
Traceback (most recent call last):
  File "train.py", line 12, in <module>
    model(x)
torch._dynamo.exc.BackendCompilerFailed: backend='inductor' raised:
RuntimeError: Triton Error [CUDA]: device kernel image is invalid

Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace (please do this especially if you're reporting a bug).
"""
DYNAMO = """\
E1129 21:04:21.884000 1658 torch/_subclasses/fake_tensor.py:3090] [0/0] failed while attempting to run meta for aten.mm
E1129 21:04:21.884000 1658 torch/_subclasses/fake_tensor.py:3090] [0/0] Traceback (most recent call last):
E1129 21:04:21.884000 1658 torch/_subclasses/fake_tensor.py:3090] [0/0]   File "/venv/torch/__init__.py", line 1750
E1129 21:04:21.884000 1658 torch/_subclasses/fake_tensor.py:3090] [0/0]     raise error_type(message_evaluated)
E1129 21:04:21.884000 1658 torch/_subclasses/fake_tensor.py:3090] [0/0] RuntimeError: from a log, and gone on
Traceback (most recent call last):
  File "/venv/torch/_dynamo/exc.py", line 723, in unimplemented
    raise Unsupported(
torch._dynamo.exc.TorchRuntimeError: RuntimeError when making fake tensor call
  Explanation: Dynamo failed to run FX node with fake tensors: call_function <built-in function matmul>(*(FakeTensor(..., size=(2, 2)), FakeTensor(..., size=(3, 3))), **{}): got RuntimeError('a and b must have same reduction dim, but got [2, 2] X [3, 3].')
  Hint: Your code may result in an error when running in eager.

  Developer debug context:

from user code:
   File "train.py", line 22, in g
    return x @ y

Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace (please do this especially if you're reporting a bug to PyTorch).

"""
SYNTAX = """\
  File "/home/train.py", line 12
    for step in range(10)
                         ^
SyntaxError: expected ':'
"""
IMPORTED_SYNTAX = """\
Traceback (most recent call last):
  File "/home/train.py", line 1, in <module>
    import model
  File "/home/model.py", line 3
    return x
    ^^^^^^
IndentationError: expected an indented block after function definition on line 2
"""
BARE_ASSERT = """\
Traceback (most recent call last):
  File "/home/train.py", line 210, in <module>
    main(
    ~~~~^
        depth=9)
        ^^^^^^^^
  File "/home/train.py", line 98, in main
    assert TOTAL_BATCH_SIZE % tokens_per_fwdbwd == 0
           ~~~~~~~~~~~~~~~~~^^~~~~~~~~~~~~~~~~~~
AssertionError
"""
SEGFAULT = """\
Fatal Python error: Segmentation fault

Current thread 0x00007f23e49ebb80 (most recent call first):
  File "/venv/lib/python3.12/site-packages/torch/nn/functional.py", line 519 in embedding
  File "train.py", line 1 in <module>

Extension modules: numpy._core._multiarray_umath, torch._C (total: 41)
Segmentation fault (core dumped)
"""
DATALOADER = """\
Traceback (most recent call last):
  File "train.py", line 30, in <module>
    for batch in loader:
  File "/venv/lib/python3.12/site-packages/torch/_utils.py", line 733, in reraise
    raise exception
ValueError: Caught ValueError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/torch/utils/data/_utils/worker.py", line 349, in _worker_loop
    data = fetcher.fetch(index)
  File "train.py", line 12, in __getitem__
    raise ValueError("token 70001 is outside the vocabulary")
ValueError: token 70001 is outside the vocabulary

"""
DATALOADER_KILLED = """\
Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/torch/utils/data/dataloader.py", line 1251, in _try_get_data
    data = self._data_queue.get(timeout=timeout)
RuntimeError: DataLoader worker (pid 412) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory.
{from_}Traceback (most recent call last):
  File "train.py", line 30, in <module>
    for batch in loader:
RuntimeError: DataLoader worker (pid(s) 412) exited unexpectedly
""".replace("{from_}", FROM)
POOL = """\
concurrent.futures.process._RemoteTraceback:
\"\"\"
Traceback (most recent call last):
  File "train.py", line 5, in tokenize
    return text.encode("ascii")
UnicodeEncodeError: 'ascii' codec can't encode character '\\xe9' in position 3: ordinal not in range(128)
\"\"\"
{from_}Traceback (most recent call last):
  File "train.py", line 12, in <module>
    list(pool.map(tokenize, texts))
UnicodeEncodeError: 'ascii' codec can't encode character '\\xe9' in position 3: ordinal not in range(128)
""".replace("{from_}", FROM)
ARGPARSE = """\
usage: train.py [-h] [--depth DEPTH]
                [--width WIDTH]
train.py: error: argument --depth: invalid int value: 'nine'
"""
UV = """\
Using CPython 3.11.7
Creating virtual environment at: .venv
error: Failed to download `idna==3.10`
  cause: Failed to fetch: https://pypi.example/idna-3.10-py3-none-any.whl
  cause: error sending request for url (https://pypi.example/idna-3.10-py3-none-any.whl)
  cause: dns error
  cause: failed to lookup address information: Name or service not known

hint: `idna` (v3.10) was included because `p` (v0.1.0) depends on `idna`
"""
OLD_UV = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because idna was not found in the cache and your project depends on idna==99, we can conclude that
      your project's requirements are unsatisfiable.

      hint: Packages were unavailable because the network was disabled.
"""
CPP = """\
terminate called after throwing an instance of 'c10::Error'
  what():  CUDA error: an illegal memory access was encountered
Exception raised from c10_cuda_check_implementation at ../c10/cuda/CUDAException.cpp:43
frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x96 (0x7f in libc10.so)
Aborted (core dumped)
"""
CLEAN_UP = f"""\
{TRACEBACK}ValueError: the real one
Exception ignored in atexit callback: <function shutdown at 0x7fc30b805bc0>
Traceback (most recent call last):
  File "train.py", line 2, in <lambda>
    atexit.register(lambda: 1/0)
ZeroDivisionError: division by zero
Error in sys.excepthook:
"""
LOGGING = f"""\
{TRACEBACK}ValueError: the real one
--- Logging error ---
Traceback (most recent call last):
  File "/usr/lib/python3.12/logging/__init__.py", line 1110, in emit
    msg = self.format(record)
TypeError: %d format: a real number is required, not str
Call stack:
  File "train.py", line 4, in <module>
    logging.warning("%d", "x")
Message: '%d'
Arguments: ('x',)
"""
LEAKED = f"""\
{TRACEBACK}ValueError: the real one
/usr/lib/python3.12/multiprocessing/resource_tracker.py:254: UserWarning: There appear to be 1 leaked semaphore objects
  warnings.warn('resource_tracker: There appear to be %d '
"""
RICH = """\
╭────────────────────── Traceback (most recent call last) ───────────────────────╮
│ /home/train.py:12 in <module>                                                  │
│ ❱ 12     raise ValueError("no head")                                           │
╰────────────────────────────────────────────────────────────────────────────────╯
ValueError: no head
"""
LOGURU = """\
2026-11-29 20:00:01.123 | ERROR    | __main__:<module>:10 - An error has been caught in function '<module>':
Traceback (most recent call last):

> File "train.py", line 10, in <module>
    main()
    └ <function main at 0x7f>

  File "train.py", line 7, in main
    return 1 / depth
               └ 0

ZeroDivisionError: division by zero
"""
SOURCE_LIKE_PROGRESS = """\
Traceback (most recent call last):
  File "train.py", line 4, in <module>
    step = 5
ValueError: no steps
"""
INDUCTOR = """\
Traceback (most recent call last):
  File "train.py", line 408, in gradients
    loss = run(inputs, targets) / parts
           ^^^^^^^^^^^^^^^^^^^^
  File "/usr/lib/python3.12/subprocess.py", line 1955, in _execute_child
    raise child_exception_type(errno_num, err_msg, err_filename)
torch._inductor.exc.InductorError: LoweringException: FileNotFoundError: [Errno 2] No such file or directory: '/opt/gcc/bin/gcc'
  target: flex_attention
{dump}  args[8]: ()FileNotFoundError: [Errno 2] No such file or directory: '/opt/gcc/bin/gcc'
  target: flex_attention
{dump}  args[8]: ()
Found from : \n\
   File "train.py", line 234, in forward
    x = block(x, values, self.cos, self.sin)
  File "/venv/lib/python3.12/site-packages/torch/nn/attention/flex_attention.py", line 1690, in flex_attention
    out, lse, max_scores = flex_attention_hop(


Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace (please do this especially if you're reporting a bug to PyTorch). For even more developer context, set TORCH_LOGS="+dynamo"


""".replace(
    "{dump}", "              tmp1 = ops.to_dtype(tmp0, torch.float32, src_dtype=torch.bfloat16)\n" * 350
)
JAX = f"""\
{TRACEBACK.replace("RuntimeError", "TypeError")}\
TypeError: dot_general requires contracting dimensions to have the same shape, got (3,) and (4,).
--------------------
For simplicity, JAX has removed its internal frames from the traceback of the following exception. Set JAX_TRACEBACK_FILTERING=off to include these.
"""
OLD_JAX = f"""\
jax.errors.SimplifiedTraceback: For simplicity, JAX has removed its internal frames from the traceback of the following exception. Set JAX_TRACEBACK_FILTERING=off to include these.
{FROM}Traceback (most recent call last):
  File "train.py", line 98, in main
    assert TOTAL_BATCH_SIZE % tokens_per_fwdbwd == 0
AssertionError
""".replace("jax.errors", f"{TRACEBACK}jax.errors", 1)
HYDRA = f"""\
Error executing job with overrides: ['lr=0.1']
{TRACEBACK}ValueError: no scheduler of that name

Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.
"""
HYDRA_OVERRIDE = """\
Could not override 'lrr'.
Key 'lrr' is not in struct

Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.
"""
RUST = """\
thread 'main' panicked at src/bpe.rs:40:9:
index out of bounds: the len is 256 but the index is 256
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""
CUDA = f"""\
{TRACEBACK}torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device
Search for `cudaErrorNoKernelImageForDevice' in https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information.
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.

"""
CUDA_WITHOUT_TRACEBACK = CUDA.removeprefix(TRACEBACK).replace("torch.AcceleratorError: ", "")
NCCL = f"""\
{TRACEBACK}torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, unhandled cuda error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5
ncclUnhandledCudaError: Call to CUDA function failed.
Last error:
Cuda failure 2 'out of memory'
"""
TRANSFORMERS = f"""\
{TRACEBACK}OSError: gpt-2 is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'
If this is a private repository, make sure to pass a token having permission to this repo.
"""
TRANSFORMERS_BACKEND = f"""\
{TRACEBACK}ImportError: \n
AutoModel requires the PyTorch library but it was not found in your environment. Check out the instructions on the
installation page: https://pytorch.org/get-started/locally/ and follow the ones that match your environment.
Please note that you may need to restart your runtime after installation.

"""
PYTEST = """\
    def test_loss():
>       assert loss(model) < 4
E       ValueError: width 640 does not divide by 7 heads

train.py:9: ValueError
=========================== short test summary info ============================
FAILED train.py::test_loss - ValueError: width 640 does not divide by 7 heads
============================== 1 failed in 0.12s ===============================
"""
REDIRECTED_RANK = TORCHRUN.partition("E1129")[2]
