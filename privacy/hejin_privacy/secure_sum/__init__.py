"""The secure sum: what a bank may open is the total over an agreed set of nodes, nothing else."""
