"""An nvidia-smi that says what a test wants, in the words of the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

_PROGRAM = """\
#!/bin/sh
case "$1 $2" in
"--query-gpu=index,uuid,memory.total,memory.free,utilization.gpu --format=csv,noheader,nounits")
    cat {folder}/gpus; exit $(cat {folder}/status) ;;
"--query-compute-apps=pid,used_gpu_memory,gpu_uuid,process_name --format=csv,noheader,nounits")
    cat {folder}/processes ;;
*)
    exit 2 ;;
esac
"""


class FakeGpu:
    """Puts itself first on the PATH; at first it has one idle GPU of 80 GB, `GPU-a`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        self.install(_PROGRAM.format(folder=folder))
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        self.show()

    def install(self, program: str) -> None:
        path = self.folder / "nvidia-smi"
        path.write_text(program)
        path.chmod(0o755)

    def show(self, *gpus: str, processes: tuple[str, ...] = (), status: int = 0) -> None:
        """Have these rows: `index, uuid, total, free, percent` and `pid, memory, uuid, name`."""
        lines = gpus or ("0, GPU-a, 81920, 81920, 0",)
        (self.folder / "gpus").write_text("".join(f"{line}\n" for line in lines))
        (self.folder / "processes").write_text("".join(f"{line}\n" for line in processes))
        (self.folder / "status").write_text(str(status))

    def lose(self) -> None:
        """Be a machine whose GPU has gone."""
        self.show("No devices were found", status=6)
