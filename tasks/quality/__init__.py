"""What the quality rules count in a text: columnar, by compiled kernels."""
