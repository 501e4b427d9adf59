"""Where the services that make vectors are spoken to, one module a protocol."""
