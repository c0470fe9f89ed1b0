"""Merge with mergekit, in its own environment: `peer.py CONFIG.yml OUTPUT [CONFIG.yml OUTPUT ...] [--seed 0]`.

Prints one line of JSON with what all merges together cost: `cpu` and `wall` seconds without imports, `process_cpu`
seconds with them, `memory`, the peak of anonymous memory in MB. Run by the tests beside it and by
benchmarks/merge_throughput.py, which measures ours with the same `Meter`.
"""

import argparse
import json
import logging
import os
import resource
import threading
import time
from pathlib import Path


class Meter:
    """What this process spends from now until `stop`."""

    def __init__(self) -> None:
        self._peak, self._done = _anonymous_megabytes(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self._cpu, self._start = _cpu_seconds(), time.perf_counter()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self._peak = max(self._peak, _anonymous_megabytes())

    def stop(self) -> dict[str, float]:
        spent = {
            "cpu": _cpu_seconds() - self._cpu,
            "wall": time.perf_counter() - self._start,
            "process_cpu": _cpu_seconds(),
        }
        self._done.set()
        self._watcher.join()
        return {**spent, "memory": max(self._peak, _anonymous_megabytes())}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


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
    meter = Meter()
    for config, output in zip(arguments.paths[::2], arguments.paths[1::2], strict=True):
        settings = yaml.safe_load(Path(config).read_text())
        run_merge(MergeConfiguration.model_validate(settings), output, options)
    print(json.dumps(meter.stop()))


if __name__ == "__main__":
    main()
