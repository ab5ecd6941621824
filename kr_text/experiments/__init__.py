"""Many training runs: grids, engines, results and paired tests."""
