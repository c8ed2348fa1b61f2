"""Where: Prefect deployments, runtime profiles and automations."""
