"""GPUs without a cluster's scheduler: every evaluation holds its own, whichever workflow of the user it belongs to.

The lock of a device is a lock of the operating system on a file that is named by the device's UUID: it goes with the
process that holds it, however that ends.
"""

import fcntl
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

POLL = 0.5
VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus() -> list[str]:
    """UUIDs of the GPUs that this process may use: those of the machine, within CUDA_VISIBLE_DEVICES.

    Numbers there count as nvidia-smi counts; as in CUDA, the list ends at the first entry that names no GPU, or one
    again.
    """
    installed = _installed()
    if VISIBLE not in os.environ:
        return installed
    allowed = []
    for entry in filter(None, os.environ[VISIBLE].replace(" ", "").split(",")):
        if entry.startswith("MIG-"):
            found = [entry]
        elif entry.isdigit():
            found = installed[int(entry) :][:1]
        else:
            found = [uuid for uuid in installed if uuid.startswith(entry)]
        if len(found) != 1 or found[0] in allowed:
            break
        allowed += found
    return allowed


@contextmanager
def exclusive(count: int, devices: Sequence[str], folder: Path | None = None) -> Iterator[list[str]]:
    """Hold `count` of the devices within the block, and make them the only ones that CUDA sees; waits for them.

    folder: where the locks lie; one for all processes of a user on this machine, whatever their TMPDIR.
    """
    folder = folder or Path("/tmp") / f"bambo-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        with ExitStack() as stack:
            held: list[str] = []
            for uuid in devices:
                file = stack.enter_context(open(folder / f"{uuid.replace('/', '-')}.lock", "a"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                os.utime(file.fileno())  # else the system would clear it from /tmp one day, while it is held
                held.append(uuid)
                if len(held) == count:
                    break
            if len(held) == count:
                os.environ[VISIBLE] = ",".join(held)
                yield held
                return
        # Too few: let go of all, or two processes that each hold half of what they need wait for ever.
        time.sleep(random.uniform(POLL / 2, POLL))


def _installed() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []
