"""The benchmark suite: `python -m bench`. Method and figures: bench/README.md."""
