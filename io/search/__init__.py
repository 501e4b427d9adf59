"""What Elasticsearch and OpenSearch share.

Beside the modules that every connector has:

- `dialect`: where the two differ
"""
