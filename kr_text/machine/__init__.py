"""The process and the machine: cores, memory, versions."""
