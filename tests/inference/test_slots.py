import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.inference.slots import SlotPool, shared_prefix

ids = st.lists(st.integers(min_value=0, max_value=2), max_size=6).map(tuple)


@given(ids, ids)
def test_the_shared_prefix_is_the_longest_common_beginning(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    length = shared_prefix(first, second)
    assert first[:length] == second[:length]
    assert first[length : length + 1] != second[length : length + 1] or length == len(first)
    assert length == shared_prefix(second, first)


async def test_a_prompt_gets_the_slot_that_shares_most_with_it() -> None:
    pool = SlotPool(3)
    async with pool.slot_for((1, 2, 3)) as first, pool.slot_for((1, 9)) as second:
        assert first != second
    async with pool.slot_for((1, 9, 9)) as slot:
        assert slot == second
    async with pool.slot_for((1, 2, 4)) as slot:
        assert slot == first


async def test_an_unrelated_prompt_spares_the_longest_held_one() -> None:
    pool = SlotPool(2)
    async with pool.slot_for((1, 2, 3)) as long, pool.slot_for((4,)) as short:
        pass
    async with pool.slot_for((7, 7)) as slot:
        assert slot == short
    async with pool.slot_for((1, 2)) as slot:
        assert slot == long


@given(st.lists(ids, min_size=1, max_size=20), st.integers(min_value=1, max_value=4))
async def test_no_slot_is_ever_used_by_two_at_once(
    prompts: list[tuple[int, ...]], size: int
) -> None:
    pool, used = SlotPool(size), set[int]()

    async def use(prompt: tuple[int, ...]) -> None:
        async with pool.slot_for(prompt) as slot:
            assert slot not in used
            assert 0 <= slot < size
            used.add(slot)
            await asyncio.sleep(0)
            used.remove(slot)

    await asyncio.gather(*map(use, prompts))


async def test_a_slot_is_free_again_after_an_error_and_after_a_cancelled_wait() -> None:
    pool = SlotPool(1)
    with pytest.raises(ZeroDivisionError):
        async with pool.slot_for((1,)):
            raise ZeroDivisionError

    async def use() -> None:
        async with pool.slot_for((2,)):
            await asyncio.sleep(30)

    holder, waiter = asyncio.ensure_future(use()), asyncio.ensure_future(use())
    await asyncio.sleep(0.01)
    for task in (waiter, holder):
        task.cancel()
    await asyncio.gather(holder, waiter, return_exceptions=True)
    async with asyncio.timeout(5), pool.slot_for((3,)) as slot:
        assert slot == 0
