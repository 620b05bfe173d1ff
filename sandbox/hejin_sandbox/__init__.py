"""A whole consortium on one machine, and the `hejin` command."""
