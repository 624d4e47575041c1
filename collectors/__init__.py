"""Sources of readings, one file each: what the machine, the processes and the probe say."""
