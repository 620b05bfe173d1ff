"""What is summed, and what becomes of it: views, statistics, models, evaluation."""
