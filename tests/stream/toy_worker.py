"""A worker with the real loop, Faust and broker, and a handler that does what each upload's file name tells it to.

In: environment `TOY_KAFKA`, optional `TOY_RETRY_FOR_S`, `TOY_GRACE_S`, `TOY_RUN`. File names: `ok`, `crash` (raises),
`reject`, `kill:<file>` (kills its own process, unless the file exists), `away:<file>` (Unavailable until it exists),
`hold:<file>` (waits until it exists).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path as FilePath
from time import monotonic

from services.clients.events import EventSender, KafkaConnection
from services.core import topology
from services.core.errors import Rejected, Unavailable
from services.core.events import Decision, ImageUploaded, Path, Reason, VerdictReached
from services.settings import KafkaSettings, StageSettings, TelemetrySettings
from services.stream import exits
from services.stream.app import StreamApp
from services.stream.stage import Progress, Stage, Surroundings
from services.telemetry import configure

GROUP = topology.Group("intake", (topology.UPLOADS,), ("toy",), (topology.VERDICTS,))


async def handle(upload: ImageUploaded) -> Sequence[VerdictReached]:
    order, _, file = (upload.filename or "ok").partition(":")
    match order:
        case "crash":
            raise ValueError(f"told to crash by {upload.upload_id}")
        case "reject":
            raise Rejected("corrupt", "told to")
        case "kill":
            marker = FilePath(file)
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "away":
            if not FilePath(file).exists():
                raise Unavailable("toy", f"{file} is not there yet")
        case "hold":
            FilePath(file + ".held").touch()
            while not FilePath(file).exists():
                await asyncio.sleep(0.05)
    return (
        VerdictReached(
            upload_id=upload.upload_id,
            tenant=upload.tenant,
            decision=Decision.REJECTED,
            path=Path.REJECTED,
            reasons=(Reason(code="corrupt", text=f"worker {os.getpid()}"),),
            policy_version="toy",
            uploaded_at=upload.uploaded_at,
            judged_at=datetime.now(UTC),
        ),
    )


async def main() -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    servers = os.environ["TOY_KAFKA"]
    settings = StageSettings(
        retry_first_s=0.05,
        retry_longest_s=0.5,
        retry_for_s=float(os.environ.get("TOY_RETRY_FOR_S", "60")),
        shutdown_grace_s=float(os.environ.get("TOY_GRACE_S", "20")),
        deadletter_share=1.0,
        deadletter_run=int(os.environ.get("TOY_RUN", "20")),
    )
    sender = EventSender(KafkaConnection(servers), timeout_s=10)
    await sender.start()
    surroundings = Surroundings(
        group=GROUP.name,
        consumer_group=GROUP.consumer_group,
        source="/toy",
        sender=sender,
        telemetry=configure(TelemetrySettings(), service="toy"),
        settings=settings,
        progress=Progress(monotonic),
        now=lambda: datetime.now(UTC),
        abort=exits.abort,
    )
    stage = Stage(ImageUploaded, handle, surroundings)
    app = StreamApp(GROUP, {topology.UPLOADS: stage}, kafka=KafkaSettings(bootstrap_servers=servers), settings=settings)
    await app.start()
    await stop.wait()
    await app.stop()
    await sender.stop()
    return 0


if __name__ == "__main__":
    os._exit(asyncio.run(main()))
