"""What is fast, measured. Each file is one benchmark: `python -m bench.NAME [--json]`."""
