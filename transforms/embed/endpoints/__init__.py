"""The services and models that make vectors."""
