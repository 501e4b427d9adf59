"""What several connectors share.

- `arrow`: Arrow columns as values of rows
- `types`: text and JSON as values of rows
- `unfit`: a value that a row can't hold
- `reach`: why a server can't be reached
- `updates`: what of an update a sink must know
- `lake_changes`: the changes of a table in a lake, by the keys that its commits touched
"""
