"""The kernels of the tlb room for callers that have arrays; among themselves kernels pass pointers."""
