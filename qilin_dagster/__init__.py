"""The Qilin lakehouse. Importing any part of it switches off what would call home or fetch."""

import os

# Read by Dagster, Great Expectations and the Hugging Face libraries when they are imported, which
# is after this. Not defaults: nothing here may depend on a network that happens to be there.
OFFLINE = {
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
os.environ.update(OFFLINE)
