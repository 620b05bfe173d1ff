"""Hejin's wire: generated protobuf code, version by version."""
