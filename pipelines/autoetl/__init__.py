"""Jobs as AutoETL of PolarDB for MySQL writes them: a mapping of a table into an index."""
