import pytest

from conventions.families import FAMILIES, Family
from conventions.packages import PackageUnavailable
from grace.errors import WeightsError


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return got(request.param)


def got(family: Family) -> Family:
    """The family, whose packages are there; a failure that says why if they are not."""
    try:
        family.client()
    except (PackageUnavailable, WeightsError) as error:
        pytest.fail(f"the tokenizer of {family.name} cannot be had: {error}", pytrace=False)
    return family


def named(name: str) -> Family:
    """The family of that name."""
    return got(next(family for family in FAMILIES if family.name == name))
