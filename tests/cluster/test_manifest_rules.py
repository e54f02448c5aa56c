"""What Grace makes breaks no rule that it knows, of the site or of its own."""

import pytest
from cluster_runs import Variant, everything, variants

from grace.cluster.policies import lint, violations


@pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.name)
def test_no_rule_is_broken(variant: Variant) -> None:
    profile = variant.run.profile
    found = violations(lint(everything(variant.run), profile, variant.run))
    # What the site forbids under any profile that asks for it.
    asked = profile.name == "nrp" and profile.model_servers.controller == "statefulset"
    assert {finding.rule for finding in found} == ({"site-long-running-gpu"} if asked else set())
