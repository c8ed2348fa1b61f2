"""When: the Prefect flows, the recipe, and the command line."""
