"""The mathematics of the private sum: bounds, noise, accounting, budget. No files, no network."""
