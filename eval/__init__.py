"""How good: benchmarks through lm-eval, bits per byte, paired statistics."""
