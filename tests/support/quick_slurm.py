"""snakemake as typed, but that it looks for ended Slurm jobs every two seconds.

The plugin's own pauses grow by ten seconds each, up to three minutes: most of what a test with short jobs would take.
"""

import asyncio

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def sleep(self: RemoteExecutor) -> None:
    await asyncio.sleep(2)


RemoteExecutor.sleep = sleep  # type: ignore[method-assign]
main()
