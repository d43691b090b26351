"""What every room stands on: errors, flags, signals, files, the device."""
