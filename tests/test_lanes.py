"""Order within a key, freedom between keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from roost.lanes import Lanes, Pause


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


async def test_so_many_keys_are_in_work_at_a_time_and_each_has_its_turn() -> None:
    order: list[str] = []
    most = 0
    running = 0

    async def work(item: str) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        order.append(item)

    lanes: Lanes[str] = Lanes(work, width=2)
    for item in ("a1", "a2", "a3", "b1", "c1", "d1"):
        lanes.put(item[0], item)
    await lanes.idle()
    assert most == 2
    assert order.index("d1") < order.index("a3"), "who has much waiting goes behind those who have little"
    assert [item for item in order if item[0] == "a"] == ["a1", "a2", "a3"]


async def test_thousands_of_waiting_keys_cost_no_task_each() -> None:
    gate = asyncio.Event()

    async def work(item: int) -> None:
        await gate.wait()

    lanes: Lanes[int] = Lanes(work, width=10)
    for number in range(5000):
        lanes.put(str(number), number)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) < 20
    gate.set()
    await lanes.idle()


async def test_what_is_urgent_finds_room_when_all_are_busy_and_when_held() -> None:
    gate = asyncio.Event()
    done: list[str] = []

    async def work(item: str) -> None:
        if item != "urgent":
            await gate.wait()
        done.append(item)

    lanes: Lanes[str] = Lanes(work, urgent=lambda key: key == "!", width=1)
    lanes.put("a", "slow")
    lanes.put("!", "urgent")
    holding = asyncio.create_task(hold(lanes))
    await lanes_changed(lambda: done == ["urgent"])
    gate.set()
    await holding
    await lanes.idle()
    assert done == ["urgent", "slow"]


async def hold(lanes: Lanes[str]) -> None:
    async with lanes.held():
        pass


async def lanes_changed(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not seen():
            await asyncio.sleep(0)


async def test_an_item_that_pauses_stays_first_and_costs_no_task() -> None:
    tries: list[str] = []
    ready = False

    async def work(item: str) -> Pause | None:
        tries.append(item)
        return None if ready else Pause()

    lanes: Lanes[str] = Lanes(work, width=1)
    lanes.put("a", "one")
    lanes.put("a", "two")
    lanes.put("b", "other")
    await lanes.still()
    assert tries == ["one", "other"], "a pause gives its room to others"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    ready = True
    lanes.wake()
    await lanes.idle()
    assert tries == ["one", "other", "one", "other", "two"]


async def test_a_pause_for_a_time_ends_by_itself_and_not_before() -> None:
    tries: list[str] = []

    async def work(item: str) -> Pause | None:
        tries.append(item)
        return Pause(0.01) if len(tries) < 3 else None

    lanes: Lanes[str] = Lanes(work)
    lanes.put("a", "one")
    await lanes.still()
    lanes.wake()
    assert tries == ["one"]
    await lanes.idle()
    assert tries == ["one"] * 3


async def test_a_lane_that_is_dropped_and_begun_anew_still_does_one_thing_at_a_time() -> None:
    running = 0
    done: list[str] = []

    async def work(item: str) -> Pause | None:
        nonlocal running
        running += item != "paused"
        assert running <= 1
        try:
            if item == "old":
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # it takes its time to end
            raise
        finally:
            running -= item != "paused"
        done.append(item)
        return Pause() if item == "paused" else None

    lanes: Lanes[str] = Lanes(work)
    lanes.put("a", "old")
    lanes.put("b", "paused")
    await lanes_changed(lambda: done == ["paused"])
    lanes.drop(lambda key: True)
    lanes.put("a", "new")
    lanes.wake()  # nothing is left that pauses
    await lanes.idle()
    assert done == ["paused", "new"]


async def test_a_wake_while_an_item_decides_to_pause_is_not_lost() -> None:
    done: list[str] = []
    up = False

    async def work(item: str) -> Pause | None:
        if up:
            done.append(item)
            return None
        asyncio.get_running_loop().call_soon(rise)  # runs after this returns and before the lane hears of it
        return Pause()

    def rise() -> None:
        nonlocal up
        up = True
        lanes.wake()

    lanes = Lanes(work)
    lanes.put("a", "one")
    async with asyncio.timeout(30):
        await lanes.idle()
    assert done == ["one"]
