"""Reports as one HTML file: plain values in, a page out; knows neither runs nor dictionaries."""
