"""The browser of a results root, in a terminal."""
