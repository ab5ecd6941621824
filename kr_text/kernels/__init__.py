"""Fast implementations of what the models and FastText's optimizer compute.

Modules whose names end in `_loops` import numba; import them only where `dispatch.use_compiled_loops` allows it.
"""
