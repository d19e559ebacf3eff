"""Where a job runs: one process or many, on this machine or on nodes that somebody else has allotted."""
