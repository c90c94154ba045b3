"""Sparse kernels beside a plain reference: what a training step spends its time on."""
