"""Settings that every suite shares."""

import os

from hypothesis import HealthCheck, settings

# Nothing may be fetched: models are built by the tests or come with an installed package.
os.environ["HF_HUB_OFFLINE"] = "1"

# Times on a shared machine say nothing about the code, so no example has a deadline. CI repeats the same examples,
# so that a red run is the change's doing; at a desk each run tries new ones.
settings.register_profile("desk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("desk"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
