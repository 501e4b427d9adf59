"""What Elasticsearch and OpenSearch share.

Beside the modules that every connector has:

- `dialect`: where the two differ
- `forms`: dates and whole numbers in the form that a field was told to have
- `holdings`: what stands in an index, read and removed
"""
