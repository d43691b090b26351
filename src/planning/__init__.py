"""From a number of minutes to the flags of the four commands, and keeping to the time."""
