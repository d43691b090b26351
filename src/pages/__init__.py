"""Pages: one style, one charting library, templates; each page is one file that needs no network."""
