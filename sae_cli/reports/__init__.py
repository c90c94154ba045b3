"""Reports and figures: pages, charts, feature pages."""
