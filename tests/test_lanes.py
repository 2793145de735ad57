"""Order within a key, freedom between keys."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from roost.lanes import Lanes


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=40))
def test_each_lane_keeps_its_order_whatever_takes_how_long(items: list[tuple[str, int]]) -> None:
    async def run() -> list[tuple[str, int]]:
        done: list[tuple[str, int]] = []

        async def work(item: tuple[str, int]) -> None:
            for _ in range(item[1]):
                await asyncio.sleep(0)
            done.append(item)

        lanes: Lanes[tuple[str, int]] = Lanes(work)
        for item in items:
            lanes.put(item[0], item)
        await lanes.idle()
        assert not lanes.busy("a")
        return done

    done = asyncio.run(run())
    for key in "abc":
        assert [item for item in done if item[0] == key] == [item for item in items if item[0] == key]


async def test_an_interrupted_item_does_not_end_the_lane() -> None:
    done: list[str] = []
    began = asyncio.Event()

    async def work(item: str) -> None:
        if item == "slow":
            began.set()
            await asyncio.Event().wait()
        done.append(item)

    lanes: Lanes[str] = Lanes(work)
    lanes.put("a", "slow")
    lanes.put("a", "next")
    await began.wait()
    assert lanes.interrupt("a")
    await lanes.idle()
    assert done == ["next"]
    assert not lanes.interrupt("a")


async def test_stop_cancels_what_runs_and_what_waits() -> None:
    done: list[str] = []
    began = asyncio.Event()

    async def work(item: str) -> None:
        began.set()
        await asyncio.Event().wait()
        done.append(item)

    lanes: Lanes[str] = Lanes(work)
    lanes.put("a", "one")
    lanes.put("a", "two")
    await began.wait()
    await lanes.stop()
    assert done == []
    assert not lanes.busy("a")
