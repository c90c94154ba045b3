"""Reports and figures: pages, charts, feature sheets."""
