"""Charts of results: what is drawn, and the SVG that is made of it."""
