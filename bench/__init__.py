"""Measurements, each a command with its results in bench/results; nothing here is installed."""
