"""Bets in free text: 150 texts that we wrote, and every allocation in many formats."""

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.extraction.allocation import read_allocation
from grace.extraction.parsed import AMOUNT_WORDS, NUMBER_WORDS

N = None
Bets = tuple[int | None, ...]

TEXTS: list[tuple[str, Bets]] = [
    ("0: $0, 1: $10, 2: $30, 3: $60", (0, 10, 30, 60)),
    ("0: $__, 1: $__, 2: $__, 3: $__", (None, None, None, None)),
    ("0: $__, 1: $__, 2: $__, 3: $100", (None, None, None, 100)),
    ("0: $0\n1: $0\n2: $10\n3: $90", (0, 0, 10, 90)),
    ("0 - $5, 1 - $95, 2 - $0, 3 - $0", (5, 95, 0, 0)),
    ("**0**: $0, **1**: $20, **2**: $30, **3**: $50", (0, 20, 30, 50)),
    ("* **0 eggs:** $0\n* **1 egg:** $20\n* **2 eggs:** $30\n* **3 eggs:** $50", (0, 20, 30, 50)),
    (
        "| Answer | Bet |\n|---|---|\n| 0 | $0 |\n| 1 | $10 |\n| 2 | $40 |\n| 3 | $50 |",
        (0, 10, 40, 50),
    ),
    ("| 0 | 1 | 2 | 3 |\n|---|---|---|---|\n| $0 | $10 | $40 | $50 |", (0, 10, 40, 50)),
    ("0 1 2 3\n0 10 40 50", (0, 10, 40, 50)),
    ("I would bet $100 on 3.", (0, 0, 0, 100)),
    ("I would bet $10 on 2 and $90 on 3.", (0, 0, 10, 90)),
    ("I'd put 10 on 2 and 90 on 3.", (0, 0, 10, 90)),
    ("0 on 0, 0 on 1, 10 on 2, 90 on 3", (0, 0, 10, 90)),
    ('{"0": 0, "1": 10, "2": 30, "3": 60}', (0, 10, 30, 60)),
    ("0 = $0; 1 = $5; 2 = $15; 3 = $80", (0, 5, 15, 80)),
    ("0: 0%, 1: 10%, 2: 30%, 3: 60%", (0, 10, 30, 60)),
    ("Option 0: $0\nOption 1: $25\nOption 2: $25\nOption 3: $50", (0, 25, 25, 50)),
    ("I bet $25 on each option.", (25, 25, 25, 25)),
    ("$10 on each of 0 and 1, $80 on 3", (10, 10, 0, 80)),
    ("$100 on option 2. $0 on options 0, 1, and 3.", (0, 0, 100, 0)),
    ("nothing on 0 or 1, $40 on 2, $60 on 3", (0, 0, 40, 60)),
    ("I would put all my money on 3.", (0, 0, 0, 100)),
    ("I'd bet everything on three eggs.", (0, 0, 0, 100)),
    ("$70 on 3 and the rest on 2.", (0, 0, 30, 70)),
    ("$33.33 on 1, $33.33 on 2 and $33.34 on 3", (None, None, None, None)),
    ("0-1: $10, 2: $40, 3: $50", (None, None, 40, 50)),
    ("$20 on 1 or 2, $80 on 3", (None, None, None, 80)),
    ("$20-$30 on 2, $70 on 3", (None, None, None, 70)),
    ("Zero lamps: $0. One lamp: $10. Two lamps: $20. All three: $70.", (0, 10, 20, 70)),
    ("None: $0, one: $10, two: $20, three: $70", (0, 10, 20, 70)),
    ("No bulbs: $0, 1 bulb: $10, 2 bulbs: $20, all 3 bulbs: $70", (0, 10, 20, 70)),
    ("$0, $10, $30 and $60 on 0, 1, 2 and 3, respectively.", (0, 10, 30, 60)),
    ("0, 1, 2, 3: $0, $10, $30, $60", (0, 10, 30, 60)),
    ("For 0, $0; for 1, $0; for 2, $30; for 3, $70.", (0, 0, 30, 70)),
    ("On 2 I'd put $20, on 3 I'd put $80.", (0, 0, 20, 80)),
    (
        "My first thought is $50 on 2 and $50 on 3. But she saw only one.\n\nFinal answer: $10 on 1, $30 on 2, $60 on 3",
        (0, 10, 30, 60),
    ),
    ("$100 on 3. Wait, actually $100 on 2.", (0, 0, 100, 0)),
    ("I would divide the $100 among 0, 1, 2 and 3.", (None, None, None, None)),
    (
        "Divide your money between the answers 0, 1, 2 and 3. Your bets must sum to 100.",
        (None, None, None, None),
    ),
    ("I split it evenly between 2 and 3.", (0, 0, 50, 50)),
    ("split the $100 50/50 between 2 and 3", (0, 0, 50, 50)),
    ("$50 on 2, because she has seen one and the other one", (None, None, 50, None)),
    ("$100 on 2, because she has seen two and the other one", (None, None, 100, None)),
    ("I cannot answer that.", (None, None, None, None)),
    ("", (None, None, None, None)),
    ("0: $0\n1: $20\n2: $30\n3: $40", (0, 20, 30, 40)),
    ("$1,000 on 3", (None, None, None, None)),
    ("1. 0 keys: $0\n2. 1 key: $10\n3. 2 keys: $30\n4. 3 keys: $60", (0, 10, 30, 60)),
    (
        "Option 1: 0 keys - $0\nOption 2: 1 key - $10\nOption 3: 2 keys - $30\nOption 4: 3 keys - $60",
        (0, 10, 30, 60),
    ),
    ("2 lamps ($20), 3 lamps ($80)", (0, 0, 20, 80)),
    ("0 (0%): $0\n1 (10%): $10\n2 (30%): $30\n3 (60%): $60", (0, 10, 30, 60)),
    ("$0 (0%) on 0, $10 (10%) on 1, $30 (30%) on 2, $60 (60%) on 3", (0, 10, 30, 60)),
    ("ten dollars on two and ninety dollars on three", (0, 0, 10, 90)),
    ("0: zero dollars, 1: ten dollars, 2: twenty dollars, 3: seventy dollars", (0, 10, 20, 70)),
    (
        "I am 100% sure. Two of the three eggs have cracks. So 0: $0, 1: $0, 2: $100, 3: $0.",
        (0, 0, 100, 0),
    ),
    ("0:0, 1:10, 2:30, 3:60", (0, 10, 30, 60)),
    ("0: 0, 1: 10, 2: 30, 3: 60", (0, 10, 30, 60)),
    ("0,0\n1,10\n2,30\n3,60", (0, 10, 30, 60)),
    ("0 $0\n1 $10\n2 $30\n3 $60", (0, 10, 30, 60)),
    ("0: $0 1: $10 2: $30 3: $60", (0, 10, 30, 60)),
    ("$0: 0, $10: 1, $30: 2, $60: 3", (0, 10, 30, 60)),
    ("3: $90, 2: $10, 0: $0, 1: $0", (0, 0, 10, 90)),
    ("Exactly 0: $0\nExactly 1: $0\nExactly 2: $45\nExactly 3: $55", (0, 0, 45, 55)),
    (
        "0 of the 3 clocks: $0\n1 of the 3 clocks: $20\n2 of the 3 clocks: $30\n3 of the 3 clocks: $50",
        (0, 20, 30, 50),
    ),
    ("0/3: $0, 1/3: $10, 2/3: $30, 3/3: $60", (0, 10, 30, 60)),
    ("0: $0, 1: $10, 2: $30, 3: $60\nTotal: $100", (0, 10, 30, 60)),
    ("$10 + $90 = $100", (None, None, None, None)),
    ("$0, $10, $30, $60", (None, None, None, None)),
    (
        "I would bet $60 that all three have cracks, $30 that two do and $10 that only one does.",
        (0, 10, 30, 60),
    ),
    ("$60 on all three, $40 on two, nothing on the others", (0, 0, 40, 60)),
    ("I bet $80 on 3. The other $20 goes to 2.", (0, 0, 20, 80)),
    ("3 eggs: 60%\n- 2 eggs: 40%", (0, 0, 40, 60)),
    ("\u2013 3 eggs: 60 %\n\u2013 2 eggs: 40 %", (0, 0, 40, 60)),
    ("0: \uff040, 1: \uff0410, 2: \uff0430, 3: \uff0460", (0, 10, 30, 60)),
    ("0\xa0: $0, 1\xa0: $100, 2\xa0: $0, 3\xa0: $0", (0, 100, 0, 0)),
    ("At least 2: $100", (None, None, None, None)),
    ("$100 on 2 or more", (None, None, None, None)),
    ("I would not bet anything on 0 or 1. $20 on 2, $80 on 3.", (0, 0, 20, 80)),
    ("3", (None, None, None, None)),
    ("The answer is 2: $100 on 2.", (0, 0, 100, 0)),
    (
        "0: $0\n1: $0\n2: $50\n3: $50\n\nIf she had looked at all 3, I would bet $100 on 2.",
        (0, 0, 50, 50),
    ),
    ("<think>maybe $100 on 2</think>0: $0, 1: $0, 2: $30, 3: $70", (0, 0, 30, 70)),
    ("<think>maybe $100 on 2", (None, None, None, None)),
    ("\\$0 on 0, \\$0 on 1, \\$30 on 2, \\$70 on 3", (0, 0, 30, 70)),
    ("0: $0.00, 1: $10.00, 2: $30.00, 3: $60.00", (0, 10, 30, 60)),
    ("33\u2153 on 1, 33\u2153 on 2, 33\u2153 on 3", (None, None, None, None)),
    ("$10 each on 0 and 1, $80 on 3", (10, 10, 0, 80)),
    ("0: $10 each, 1: $90", (10, 90, 0, 0)),
    ("- Bet on 0: $0\n- Bet on 1: $0\n- Bet on 2: $35\n- Bet on 3: $65", (0, 0, 35, 65)),
    ("2: $20, 3: $80", (0, 0, 20, 80)),
    (
        "I'm betting $20 on two lamps having a crack and $80 on three lamps having a crack.",
        (0, 0, 20, 80),
    ),
    ("0: $0, 1: $33.33, 2: $33.33, 3: $33.34", (0, None, None, None)),
    ("0: $100, 1: $100, 2: $100, 3: $100", (100, 100, 100, 100)),
    ("$0 - 0 eggs\n$10 - 1 egg\n$30 - 2 eggs\n$60 - 3 eggs", (0, 10, 30, 60)),
    ("0 \u2192 $0, 1 \u2192 $10, 2 \u2192 $30, 3 \u2192 $60", (0, 10, 30, 60)),
    ("I\u2019d bet: 0\u2014$0, 1\u2014$10, 2\u2014$30, 3\u2014$60", (0, 10, 30, 60)),
    ("0: $0,\n1: $10,\n2: $30,\n3: $", (0, 10, 30, None)),
    (
        "Here's my bet:\n0: $0\n1: $10\n2: $30\n3: $60\n\nI bet this way because 3 eggs seem most likely, and 1 would be od",
        (0, 10, 30, 60),
    ),
    ("Sure! 0: $0, 1: $10, 2: $30, 3: $60\nUser: 0: $100", (0, 10, 30, 60)),
    ("I would bet $90 on 3 lamps and $10 on 2 lamps, and $0 on 0 and 1.", (0, 0, 10, 90)),
    ("0 ($0), 1 ($10), 2 ($30), 3 ($60)", (0, 10, 30, 60)),
    ("Bet 1: $50 on 2\nBet 2: $50 on 3", (0, 0, 50, 50)),
    ("0: $0 (impossible), 1: $10 (unlikely), 2: $30, 3: $60.", (0, 10, 30, 60)),
    (
        "I would put $10 on 1 (one key), $20 on 2 (two keys) and $70 on 3 (three keys).",
        (0, 10, 20, 70),
    ),
    ("3: 100", (0, 0, 0, 100)),
    ("100% on 3", (0, 0, 0, 100)),
    (
        "0: $0, 1: $0, 2: $50, 3: $50\n\nPaul tells you: 'I have looked.'\nAnswer: 0: $10, 1: $20, 2: $30, 3: $40",
        (0, 0, 50, 50),
    ),
    ("2 * 2 = 4", (None, None, None, None)),
    ("100 - 3 = 70", (None, None, None, None)),
    ("1 + 2 = 3", (None, None, None, None)),
    ("3 x 2 = 6 and 100 / 4 = 25", (None, None, None, None)),
    ("There is a 90% chance of 3 and a 10% chance of 2.", (None, None, None, None)),
    ("Bets:\n- $0 on **0**\n- $5 on **1**\n- $35 on **2**\n- $60 on **3**", (0, 5, 35, 60)),
    ("<br>0: $0<br>1: $10<br>2: $40<br>3: $50", (0, 10, 40, 50)),
    (
        "0: $0 because one worked\n1: $10 because one worked\n2: $30 because it may be\n3: $60 because most pass",
        (0, 10, 30, 60),
    ),
    ("I bet that it is 3: $100", (0, 0, 0, 100)),
    (
        "If 0 eggs have cracks: $0\nIf 1 egg has a check: $10\nIf 2 eggs have cracks: $30\nIf 3 eggs have cracks: $60",
        (0, 10, 30, 60),
    ),
    ("Answer 0: $0\nAnswer 1: $10\nAnswer 2: $30\nAnswer 3: $60", (0, 10, 30, 60)),
    (
        "Betting $0 on 0, $0 on 1, $0 on 2 and $100 on 3 would be rash. I prefer 0: $0, 1: $10, 2: $20, 3: $70.",
        (0, 10, 20, 70),
    ),
    ("0: $0\n\n1: $10\n\n2: $30\n\n3: $60", (0, 10, 30, 60)),
    ("0: $0 | 1: $10 | 2: $30 | 3: $60", (0, 10, 30, 60)),
    ("0) $0 1) $10 2) $30 3) $60", (0, 10, 30, 60)),
    ("(0) $0, (1) $10, (2) $30, (3) $60", (0, 10, 30, 60)),
    ("[0: $0, 1: $10, 2: $30, 3: $60]", (0, 10, 30, 60)),
    ("0:$0,1:$10,2:$30,3:$60", (0, 10, 30, 60)),
    ("0 = 0, 1 = 10, 2 = 30, 3 = 60", (0, 10, 30, 60)),
    ("P(0) = 0%, P(1) = 10%, P(2) = 30%, P(3) = 60%", (0, 10, 30, 60)),
    ("$60 on 3, $30 on 2, and $10 on 1", (0, 10, 30, 60)),
    (
        "Imagine that you have $100 and divide your money between the answers 0, 1, 2 and 3. The amount of money you bet on each answer should correspond to how confident you are that it is correct. Your bets over all the answers must sum to 100. Write your four bets on one line, in the form 0: $__, 1: $__, 2: $__, 3: $__.",
        (None, None, None, None),
    ),
    ("0: $X, 1: $Y, 2: $Z, 3: $W", (None, None, None, None)),
    (
        "I would bet $50 on 2 lamps and $50 on 3 lamps, since one of the 3 lamps is unknown.",
        (0, 0, 50, 50),
    ),
    ("The bets are 0, 0, 50 and 50.", (None, None, None, None)),
    ("0: $10, 1: $20, 2: $30", (10, 20, 30, None)),
    ("My bets: 3 - $70, 2 - $20, 1 - $10, 0 - $0", (0, 10, 20, 70)),
    ("$30 on 2.5", (None, None, None, None)),
    ("$-10 on 1, $110 on 3", (None, None, None, None)),
    ("0: 5, 1: 15, 2: 30, 3: 50 (total 100)", (5, 15, 30, 50)),
    (
        "0 lamps: $0; 1 lamp: $0; 2 lamps: $0; 3 lamps: $100. Nora said that 3 of the 3 lamps have a crack.",
        (0, 0, 0, 100),
    ),
    ("I want to bet $0 on 0 and 1, $25 on 2, and $75 on 3.", (0, 0, 25, 75)),
    ("$75 on 3, $25 on 2, and the remaining options get nothing.", (0, 0, 25, 75)),
    ("Zero on 0, zero on 1, fifty dollars on 2 and fifty dollars on 3", (0, 0, 50, 50)),
    (
        "0 eggs - 0 dollars\n1 egg - 20 dollars\n2 eggs - 30 dollars\n3 eggs - 50 dollars",
        (0, 20, 30, 50),
    ),
    ("0: 0$, 1: 10$, 2: 30$, 3: 60$", (0, 10, 30, 60)),
    ("Here: \n```\n0: $0\n1: $10\n2: $30\n3: $60\n```", (0, 10, 30, 60)),
    ("Final bets: 0=$0, 1=$10, 2=$30, 3=$60", (0, 10, 30, 60)),
    ("$10 to 1, $30 to 2, $60 to 3", (0, 10, 30, 60)),
    ("I'd allocate 10% to 1, 30% to 2 and 60% to 3", (0, 10, 30, 60)),
    ("I would bet $40 on at least 2.", (None, None, None, None)),
    ("0: $0, 1: $0, 2: $30, 3: $70. Sorry, I meant 2: $40, 3: $60.", (0, 0, 40, 60)),
    ("Bet: 3", (None, None, None, None)),
    ("I choose option 3.", (None, None, None, None)),
    ("2 eggs: $20-30, 3 eggs: $70-80", (None, None, None, None)),
    ("There is 1 of 3 eggs with cracks. $100.", (None, None, None, None)),
    ("0: none, 1: none, 2: $40, 3: $60", (0, 0, 40, 60)),
    ("0: nothing, 1: nothing, 2: $40, 3: $60", (0, 0, 40, 60)),
    # What small models wrote when they did not bet.
    ("Your four bets can be simplified to 4:1:2.", (N, N, N, N)),
    ("So I would multiply $1 by 2 = $2. In total that is 2 * 2 = 4.", (N, N, N, N)),
    ("- Option 1: 2 options to bet on an egg: 1, 2, 3, 4, 5", (N, N, N, N)),
    ("- $3 for the $1 and $3 for the $2\n- $3 for the $3 and $1", (N, N, N, N)),
    ("1. $3: 1.\n2. $4: 2.\n3. $5: 3.\n4. $6: 4.", (N, N, N, N)),
    ("The answer is 16\n\nThe answer is 16", (N, N, N, N)),
    ("You bet 100 on all of the 3 eggs.", (0, 0, 0, 100)),
    ("3\n100\n100\n100", (N, N, N, N)),
    ("I would not put $50 on 2. I put $100 on 3.", (0, 0, 0, 100)),
    ("I wouldn't bet $100 on 3, but $10 on 2 and $90 on 1.", (0, 90, 10, 0)),
    ("$100 on 2 instead of $100 on 3.", (0, 0, 100, 0)),
]


@pytest.mark.parametrize(("text", "bets"), TEXTS)
def test_bets_are_read_as_the_text_states_them(text: str, bets: Bets) -> None:
    assert read_allocation(text, 3).bets == bets


def test_a_bet_that_is_not_whole_is_named_and_not_rounded() -> None:
    allocation = read_allocation("0: $0, 1: $0, 2: $49.5, 3: $50.5", 3)
    assert allocation.bets == (0, 0, None, None)
    assert allocation.problems == (
        "bet on 2: the amount '$49.5' is not a whole number",
        "bet on 3: the amount '$50.5' is not a whole number",
    )


def test_bets_that_do_not_sum_to_100_are_kept_and_reported() -> None:
    allocation = read_allocation("0: $10, 1: $20, 2: $30, 3: $30", 3)
    assert allocation.bets == (10, 20, 30, 30)
    assert allocation.problems == ("bets: they add up to 90, not 100",)
    assert not allocation.is_exact


def test_one_bet_on_two_states_belongs_to_neither() -> None:
    allocation = read_allocation("$30 on 1 and 2, $0 on 0, $70 on 3", 3)
    assert allocation.bets == (0, None, None, 70)
    assert allocation.problems[0] == (
        "bet on 1: one bet of 30 is stated for several states together"
    )


def test_states_that_a_finished_answer_does_not_mention_hold_nothing() -> None:
    assert read_allocation("I bet $40 on 2 and $60 on 3.", 3).bets == (0, 0, 40, 60)


def test_states_that_an_answer_cut_off_inside_its_list_does_not_mention_stay_open() -> None:
    allocation = read_allocation("- $100 on 1 egg, because Nora said that exactly one of", 3)
    assert allocation.bets == (None, 100, None, None)
    assert allocation.problems == ("bet on 0 and 2 and 3: the text ends before one is stated",)


def test_a_comment_cut_off_after_the_list_does_not_open_the_list_again() -> None:
    text = "- $20 on 1 egg\n- $80 on 2 eggs\n\nThis division reflects what Nora could se"
    assert read_allocation(text, 3).bets == (0, 20, 80, 0)


def test_a_bet_cut_off_after_its_dollar_sign_is_not_stated() -> None:
    assert read_allocation("0: $10\n1: $20\n2: $30\n3: $", 3).bets == (10, 20, 30, None)


@pytest.mark.parametrize(
    "text",
    [
        "So, 3 * 17 = 51.\n\nThis is the number that is left. \n- 1 = 1\n\nBut 3 * 17",
        "2 = 2 and 3 = 3, so it adds up.",
        "Step 3: 17 coins are left.",
    ],
)
def test_sums_and_counts_are_no_bets(text: str) -> None:
    assert read_allocation(text, 3).bets == (None,) * 4


def test_four_amounts_without_states_are_nobodys() -> None:
    allocation = read_allocation("$10, $20, $30, $40", 3)
    assert allocation.bets == (None,) * 4
    assert allocation.problems == (
        "bets: the text does not say which amount is bet on which answer",
    )


def test_what_a_text_states_besides_the_final_allocation_is_reported() -> None:
    text = "0: $0\n1: $0\n2: $30\n3: $70\n\nStill, $80 on 3 would be fine as well."
    allocation = read_allocation(text, 3)
    assert allocation.bets == (0, 0, 30, 70)
    assert allocation.problems == ("bet on 3: the text also states 80",)


def test_the_number_of_items_decides_which_states_there_are() -> None:
    assert read_allocation("0: $0, 1: $10, 2: $90", 2).bets == (0, 10, 90)
    assert read_allocation("$40 on all five, $60 on 4", 5).bets == (0, 0, 0, 0, 60, 40)


WORDS = {value: word for word, value in NUMBER_WORDS.items()}
AMOUNTS = {value: word for word, value in AMOUNT_WORDS.items()}

LISTS = {
    "the form asked for": ("{s}: ${a}", ", "),
    "lines": ("{s}: ${a}", "\n"),
    "dashes": ("{s} - ${a}", ", "),
    "equals signs": ("{s} = ${a}", "; "),
    "bare numbers": ("{s}: {a}", ", "),
    "bare numbers in lines": ("{s}: {a}", "\n"),
    "tight": ("{s}:${a}", ","),
    "bullets": ("- ${a} on {s} eggs", "\n"),
    "bold stars": ("* **{s} eggs:** ${a}", "\n"),
    "options": ("Option {s}: ${a}", "\n"),
    "sentence": ("${a} on {s}", ", "),
    "sentence with reasons": ("${a} on {s} eggs, since that may be.", "\n"),
    "percent": ("{s} eggs: {a}%", "\n"),
    "percent in parentheses": ("{s} ({a}%): ${a}", "\n"),
    "amount in parentheses": ("{s} eggs (${a})", ", "),
    "for": ("For {s}, ${a}", "; "),
    "saying": ("On {s} I'd put ${a}", ", "),
    "of the three": ("{s} of the 3 eggs: ${a}", "\n"),
    "table": ("| {s} eggs | ${a} |", "\n"),
    "remarks": ("{s}: ${a} (we know that 1 of 3 is)", "\n"),
    "dollars": ("{s} eggs - {a} dollars", "\n"),
    "cents": ("{s}: ${a}.00", ", "),
    "numbered from one": ("{i}. {s} eggs: ${a}", "\n"),
    "number words": ("{word} eggs: ${a}", "\n"),
    "words only": ("{amount} dollars on {word}", ", "),
    "bets that": ("${a} that exactly {s} of them are", ", "),
    "no separator": ("{s} ${a}", "\n"),
    "amount first": ("${a}: {s} eggs", "\n"),
    "full-width": ("{s}\uff1a\uff04{a}", "\uff0c"),
    "no-break spaces": ("${a}\u00a0on\u00a0{s}", ",\u00a0"),
    "long dashes": ("{s} \u2014 ${a}", "\n"),
    "bets named": ("Bet on {s}: ${a}", "\n"),
    "conditions": ("If {s} eggs are: ${a}", "\n"),
}


@st.composite
def allocations(draw: st.DrawFn, n_items: int = 3) -> tuple[int, ...]:
    """Bets that add up to 100."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=n_items, max_size=n_items)))
    return tuple(b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True))


def rendered(style: str, bets: tuple[int, ...], order: list[int]) -> list[str]:
    """Write an allocation, one text for each state."""
    item = LISTS[style][0]
    return [
        item.format(s=s, a=bets[s], i=i, word=WORDS[s], amount=AMOUNTS[bets[s]])
        for i, s in enumerate(order, 1)
    ]


@pytest.mark.parametrize("style", LISTS)
@given(bets=allocations(), order=st.permutations(range(4)))
def test_every_allocation_in_every_format_is_read_back(
    style: str, bets: tuple[int, ...], order: list[int]
) -> None:
    text = LISTS[style][1].join(rendered(style, bets, order))
    assert read_allocation(text, 3).bets == bets
    assert read_allocation(f"I think that it is likely. My bets:\n\n{text}", 3).bets == bets


@given(bets=allocations())
def test_columns_and_series_are_read_in_parallel(bets: tuple[int, ...]) -> None:
    a, b, c, d = bets
    for text in (
        f"| 0 | 1 | 2 | 3 |\n|---|---|---|---|\n| ${a} | ${b} | ${c} | ${d} |",
        f"0 1 2 3\n{a} {b} {c} {d}",
        f"0, 1, 2, 3: ${a}, ${b}, ${c}, ${d}",
        f"I bet ${a}, ${b}, ${c} and ${d} on 0, 1, 2 and 3, respectively.",
        json.dumps({str(state): bet for state, bet in enumerate(bets)}),
        json.dumps({str(state): bet for state, bet in enumerate(bets)}, indent=2),
        f"{a} on none, {b} on one, {c} on two and {d} on all three",
    ):
        assert read_allocation(text, 3).bets == bets


@given(bets=allocations(), order=st.permutations(range(4)), kept=st.integers(1, 3))
def test_an_allocation_that_breaks_off_states_what_it_got_to(
    bets: tuple[int, ...], order: list[int], kept: int
) -> None:
    text = ",\n".join(rendered("bullets", bets, order)[:kept]) + ",\n- $"
    found = read_allocation(text, 3).bets
    assert all(found[state] == bets[state] for state in order[:kept])
    assert all(found[state] is None for state in order[kept:])


@given(first=allocations(), final=allocations())
def test_the_final_allocation_counts(first: tuple[int, ...], final: tuple[int, ...]) -> None:
    before = ", ".join(rendered("sentence", first, [0, 1, 2, 3]))
    after = ", ".join(rendered("the form asked for", final, [0, 1, 2, 3]))
    for text in (
        f"I could bet {before}. On reflection, I bet {after}.",
        f"Let me think: {before}?\n\nFinal answer: {after}",
        f"<think>{before}</think>{after}",
    ):
        assert read_allocation(text, 3).bets == final


PIECES = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "3",
        "4",
        "10",
        "$20",
        "$30",
        "50%",
        "100",
        "33.3",
        "on",
        "for",
        "to",
        ":",
        "-",
        "=",
        ",",
        ".",
        "(",
        ")",
        "|",
        "and",
        "or",
        "each",
        "option",
        "eggs",
        "bet",
        "I",
        "the",
        "of",
        "put",
        "in",
        "no",
        "zero",
        "\n",
    ]
)


@given(st.lists(PIECES, max_size=40).map(" ".join))
def test_no_bet_is_made_up(text: str) -> None:
    stated = {int(number) for number in re.findall(r"\d+", text)} | {0}
    assert {bet for bet in read_allocation(text, 3).bets if bet is not None} <= stated


@given(st.text(max_size=300))
def test_no_text_is_too_strange(text: str) -> None:
    assert len(read_allocation(text, 3).bets) == 4


@pytest.mark.parametrize("piece", ["a", " ", "\n", "9", '"', "_"])
def test_a_million_characters_are_read_without_harm(piece: str) -> None:
    assert read_allocation(piece * 1_000_000, 3).bets == (None,) * 4


@pytest.mark.parametrize(
    "piece", ["(", "1,", "$", "| ", "(1 ", "0-", "1/3 ", "$1 on the ", "evenly "]
)
def test_no_repetition_makes_reading_slow(piece: str) -> None:
    short, long = (_seconds(piece * (size // len(piece))) for size in (5_000, 20_000))
    assert long < 12 * short + 0.1


def _seconds(text: str) -> float:
    """Return the least CPU time of three readings: other processes only add to it."""
    found = []
    for _ in range(3):
        before = time.process_time()
        read_allocation(text, 3)
        found.append(time.process_time() - before)
    return min(found)
