"""Templates: jobs with parameters."""
