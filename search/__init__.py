"""Decides what to try, runs it and remembers it. The command line is `python -m search`."""
