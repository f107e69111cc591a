"""The walker's kernels for callers that have arrays."""
