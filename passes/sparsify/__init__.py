"""Weights with fewer numbers: zeros, and products of two thin matrices."""
