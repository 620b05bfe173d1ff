"""The data owner: warehouse, authorisations, budget, and the session that answers a bank."""
