"""Metrics: plain functions of predictions and references, one file a kind of task. None needs torch."""
