"""The machine and the process: versions, cores, memory."""
