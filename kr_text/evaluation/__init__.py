"""Metrics of class probabilities, calibration, and class means of predictions."""
