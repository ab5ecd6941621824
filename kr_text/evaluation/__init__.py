"""Metrics, calibration and label matrices of a classifier's predictions."""
