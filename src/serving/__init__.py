"""A run behind HTTP: a page to try it on images of one's own, and an API."""
