"""The decode pool with real processes: crashes, memory and time cost one picture, not the worker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import sleep

import pytest

from services.core.errors import Rejected
from services.core.intake.examine import Limits, examine
from services.stream.pool import DecodePool
from tests.chaos.world import jpeg, picture


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def never() -> None:
    sleep(3600)


def eat() -> None:
    bytearray(64 * 2**30)


def double(number: int) -> int:
    return 2 * number


def own_pid() -> int:
    return os.getpid()


def own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    pool = DecodePool(workers=1, timeout_s=20)
    yield pool
    pool.close()


async def test_a_picture_is_examined_in_another_process(pool: DecodePool) -> None:
    examined = await pool.run(examine, jpeg(picture(1)), Limits())
    assert (examined.width, examined.height, examined.format) == (256, 192, "JPEG")
    assert await pool.run(own_pid) != os.getpid()


async def test_a_rejection_crosses_the_process_border_whole(pool: DecodePool) -> None:
    with pytest.raises(Rejected) as refused:
        await pool.run(examine, b"no image", Limits())
    assert refused.value.code == "unsupported_type"


async def test_what_crashes_the_decoder_is_rejected_and_its_neighbours_are_done_again(pool: DecodePool) -> None:
    results = await asyncio.gather(
        *(pool.run(double, n) for n in range(3)), pool.run(die), pool.run(double, 3), return_exceptions=True
    )
    assert [r for r in results if not isinstance(r, BaseException)] == [0, 2, 4, 6]
    (refused,) = [r for r in results if isinstance(r, BaseException)]
    assert isinstance(refused, Rejected)
    assert refused.code == "decoder_crashed"
    assert await pool.run(double, 21) == 42


async def test_what_eats_memory_is_rejected(pool: DecodePool) -> None:
    with pytest.raises(Rejected) as refused:
        await pool.run(eat)
    assert refused.value.code == "decoder_crashed"


async def test_what_takes_too_long_is_rejected_and_its_process_ended() -> None:
    pool = DecodePool(workers=1, timeout_s=10)
    try:
        pid = await pool.run(own_pid)
        with pytest.raises(Rejected) as refused:
            await pool.run(never)
        assert refused.value.code == "decoder_crashed"
        async with asyncio.timeout(30):
            while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
                await asyncio.sleep(0.05)
        assert await pool.run(double, 1) == 2
    finally:
        pool.close()


async def test_processes_that_give_way_do_so_also_after_one_of_them_died() -> None:
    pool = DecodePool(workers=1, timeout_s=20, niceness=7)
    try:
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        assert await pool.run(own_niceness) == min(19, ours + 7)
        with pytest.raises(Rejected):
            await pool.run(die)
        assert await pool.run(own_niceness) == min(19, ours + 7)
    finally:
        pool.close()
