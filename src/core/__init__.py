"""Shared basics: errors, flags, signals, files, the device."""
