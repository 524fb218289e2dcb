"""The image, built once for all tests that start something of it."""

from collections.abc import Iterator

import pytest

from .image import Image


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    image = Image()
    try:
        image.build()
        yield image
    finally:
        image.remove()
