"""Scores in tables, and the page that shows them."""
