"""Figures of the running server: `make bench` prints a table and writes bench/results.json."""
