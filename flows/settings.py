"""Prefect's settings for what domainlm starts itself; import this before Prefect.

Nothing phones home: the server's analytics and the SDK's telemetry are off. What the user has set stays as it is.
`HF_HUB_OFFLINE` is not among them: `acquire` reads a Hub data set that the recipe names. Training and evaluation, which
name nothing, run with it.
"""

import os

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 by default, and a busy laptop needs 30
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
}

for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
