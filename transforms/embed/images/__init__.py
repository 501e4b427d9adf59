"""Images: found, fetched, checked and made ready for a model."""
