"""The bank: plans, rounds, models."""
