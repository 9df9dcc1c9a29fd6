"""Speed and memory beside the peers, as ratios measured in one run: `python -m benchmarks`, or one by its name."""
