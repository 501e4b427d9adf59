"""Jobs in Python, for programs and notebooks: ``vecferry.load``.

- `job`: a job that was loaded, and what it answers
- `rows`: rows as Arrow, as dicts and as HTML
- `html`: what a notebook shows
"""
