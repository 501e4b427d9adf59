"""Fixtures that tests of images share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.transforms.embed.images.support import ImageServer, png


@pytest.fixture
def host() -> Iterator[ImageServer]:
    """A host of images."""
    with ImageServer({"/a.png": png(1)}) as images:
        yield images
