"""Worlds made from a seed, driven synchronously through the Machine, with the laws looked at after every step (design.md §10): of what it
touched, and of everything at each crash and each twelfth step."""
