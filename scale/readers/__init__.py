"""Reading images and volumes of any common format, and finding them in folders."""

from scale.readers.files import SUFFIXES, read
from scale.readers.picture import Picture, UnreadableError

__all__ = ["SUFFIXES", "Picture", "UnreadableError", "read"]
