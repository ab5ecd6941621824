"""Training runs: arguments and recipes, the stages of a run, its report, and resuming it."""
