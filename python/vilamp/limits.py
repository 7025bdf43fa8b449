"""Limits that the command line knows before it imports PyTorch."""

MOST_NEW_TOKENS = 1 << 16
"""Twice what the 7B model can read; the cache has room for the longest answer from the start."""
MOST_FRAMES = 1_000_000
"""Eleven days at a frame a second."""
LOWEST_FPS, HIGHEST_FPS = 1e-9, 1e6
"""A frame in 31 years, and one in a microsecond: times and counts stay exact."""
LARGEST_TEMPERATURE = 1e6
"""Long before it, every word is as likely as any other."""
