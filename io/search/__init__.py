"""What Elasticsearch and OpenSearch share; `dialect` says where the two differ."""
