"""Worlds made from a seed, driven synchronously through the Machine, with every law looked at after every step (design.md §10)."""
