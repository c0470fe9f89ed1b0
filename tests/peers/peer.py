"""Merge with mergekit, in its own environment: `peer.py CONFIG.yml OUTPUT [CONFIG.yml OUTPUT ...] [--seed 0]`.

Prints one line of JSON with what all merges together cost: `cpu` and `wall` seconds without imports, `process_cpu`
seconds with them, `memory`, the peak of anonymous memory in MB. Run by the tests beside it and by
benchmarks/merge_throughput.py; nothing of it is imported by ours.
"""

import argparse
import json
import logging
import os
import resource
import threading
import time
from pathlib import Path


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


class PeakMemory(threading.Thread):
    """Samples the anonymous memory of this process until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = anonymous_megabytes(), threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, anonymous_megabytes())

    def stop(self) -> float:
        self._done.set()
        self.join()
        return self.peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", help="a config and an output folder, once or more")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    import yaml
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    logging.disable(logging.WARNING)
    options = MergeOptions(
        device="cpu", copy_tokenizer=False, write_model_card=False, quiet=True, random_seed=arguments.seed
    )
    memory = PeakMemory()
    memory.start()
    cpu, wall = cpu_seconds(), time.perf_counter()
    for config, output in zip(arguments.paths[::2], arguments.paths[1::2], strict=True):
        settings = yaml.safe_load(Path(config).read_text())
        run_merge(MergeConfiguration.model_validate(settings), output, options)
    result = {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall, "process_cpu": cpu_seconds()}
    print(json.dumps({**result, "memory": memory.stop()}))


if __name__ == "__main__":
    main()
