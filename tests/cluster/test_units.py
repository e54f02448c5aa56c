from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.cluster.units import format_cpu, format_gb, in_gb, parse_quantity
from grace.errors import UsageError

numbers = st.decimals(min_value=0, max_value=10**6, places=3, allow_nan=False)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("0", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("-1", "-1"),
        ("1.", "1"),
        (".5", "0.5"),
        ("007", "7"),
        ("500m", "0.5"),
        ("1n", "0.000000001"),
        ("1u", "0.000001"),
        ("1k", "1000"),
        ("1M", "1000000"),
        ("1G", "1000000000"),
        ("1E", "1e18"),
        ("1E3", "1000"),
        ("1e3", "1000"),
        ("1e-3", "0.001"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("1Ei", str(1024**6)),
        (2, "2"),
        (0.5, "0.5"),
    ],
)
def test_a_quantity_has_the_value_that_kubernetes_gives_it(written: object, value: str) -> None:
    assert parse_quantity(written) == Decimal(value)


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "1 ",
        " 1",
        "1 Gi",
        "1K",
        "1ki",
        "1mi",
        "1Mib",
        "1GB",
        "Gi",
        ".",
        "+",
        "--1",
        "1e1.5",
        "1eGi",
        "1.2.3",
        "1,5",
        "inf",
        "0x10",
        "1e99",
        "٣",
        None,
        True,
        [],
        float("nan"),
    ],
)
def test_what_kubernetes_refuses_is_refused_with_the_value(written: object) -> None:
    with pytest.raises(UsageError, match="is not a quantity"):
        parse_quantity(written)


def test_an_exponent_needs_digits() -> None:
    with pytest.raises(UsageError, match="'1e' is not a quantity"):
        parse_quantity("1e")


@given(numbers, st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_a_unit_multiplies_exactly(number: Decimal, suffix: str) -> None:
    assert parse_quantity(f"{number}{suffix}") == number * parse_quantity(f"1{suffix}")


@given(numbers, st.integers(-9, 9))
def test_an_exponent_is_a_power_of_ten(number: Decimal, exponent: int) -> None:
    assert parse_quantity(f"{number}e{exponent}") == number * Decimal(10) ** exponent


@given(numbers, numbers)
def test_quantities_are_ordered_as_their_values_are(left: Decimal, right: Decimal) -> None:
    assert (parse_quantity(f"{left}Gi") < parse_quantity(f"{right}Gi")) == (left < right)


@given(st.integers(1, 512_000))
def test_cores_survive_the_round_trip_to_the_thousandth(thousandths: int) -> None:
    written = format_cpu(thousandths / 1000)
    assert parse_quantity(written) == Decimal(thousandths) / 1000


@given(st.integers(1, 4_000_000))
def test_memory_survives_the_round_trip_to_the_mebibyte(mebibytes: int) -> None:
    written = format_gb(mebibytes / 1024)
    assert parse_quantity(written) == mebibytes * 1024**2


@given(st.floats(0.001, 10_000))
def test_what_is_written_holds_what_is_needed(gigabytes: float) -> None:
    held = in_gb(parse_quantity(format_gb(gigabytes)))
    assert gigabytes <= held + 1e-9
    assert held - gigabytes < 1 / 1024 + 1e-9


def test_sizes_are_written_without_a_fraction() -> None:
    assert format_cpu(0.5) == "500m"
    assert format_cpu(4) == "4"
    assert format_gb(1.5) == "1536Mi"
    assert format_gb(50) == "50Gi"
