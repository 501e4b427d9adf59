"""One run of a job, from its graph to its report."""
