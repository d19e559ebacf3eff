"""What a run says, and what follows from it: the run directory, the journal's files, the run's state."""
