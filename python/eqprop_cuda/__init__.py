"""Trains deep convolutional Hopfield networks with equilibrium propagation.

This package holds the program `eqprop-cuda` and nothing to import: `python -m eqprop_cuda` is the same as the command.
"""
