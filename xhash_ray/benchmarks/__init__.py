"""Commands that measure: ours beside a peer in the same run, answers compared, no thresholds asserted."""
