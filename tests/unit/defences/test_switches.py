"""A switch that no longer fits the product is found here, not by the next sweep."""

import pytest

from tests.defences.switches import DEFENCES
from tests.defences.switches.registry import Defence


@pytest.mark.parametrize("defence", DEFENCES.values(), ids=lambda each: each.name)
def test_a_switch_fits_the_product(defence: Defence) -> None:
    with pytest.MonkeyPatch.context() as patch:
        defence.switch(patch)
