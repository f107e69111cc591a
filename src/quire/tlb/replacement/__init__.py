"""Which entry of a set is found, used and replaced: scans, stamps, lists of ways, trees, and chance."""
